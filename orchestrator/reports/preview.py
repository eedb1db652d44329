"""What a run says of the images that its model saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.reports.fields import encodable, text
from orchestrator.reports.health import embedded_png
from orchestrator.reports.values import PreviewImage, PreviewReport


def parse_preview(content: Mapping[str, Any]) -> PreviewReport:
    """The content of `preview.json`; raises `KeyError`, `TypeError` or `ValueError` where it is not what it should be."""
    headings = tuple(encodable(str(heading)) for heading in content["headings"])
    return PreviewReport(
        headings, int(content["size"]), int(content["shown"]), tuple(_image(image, len(headings)) for image in content["images"])
    )


def _image(content: Mapping[str, Any], pictures: int) -> PreviewImage:
    if len(content["pictures"]) != pictures:
        raise ValueError(f"{len(content['pictures'])} pictures under {pictures} headings")
    return PreviewImage(text(content, "name"), text(content, "path"), tuple(embedded_png(str(picture)) for picture in content["pictures"]))
