"""What a run says about the health of its images."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from orchestrator.reports.fields import counts, encodable, text
from orchestrator.reports.mistakes import PNG_SIGNATURE
from orchestrator.reports.values import Doubtful, HealthReport, ImagePair, PairImage


def parse_health(content: Mapping[str, Any]) -> HealthReport:
    """The content of `health.json`; raises `KeyError`, `TypeError` or `ValueError` where it is not what it should be."""
    return HealthReport(
        classes={encodable(str(name)): counts(content["classes"], name) for name in content["classes"]},
        short_side=tuple(float(value) for value in content["short_side"]),
        aspect=tuple(float(value) for value in content["aspect"]),
        kinds=counts(content, "kinds"),
        misnamed=int(content["misnamed"]),
        same_file=_doubtful(content["same_file"]),
        look_alike=_doubtful(content["look_alike"]),
        compared=bool(content["look_alike"]["compared"]),
        pairs=tuple(
            ImagePair(text(pair, "kind"), text(pair, "fault"), _image(pair["first"]), _image(pair["second"])) for pair in content["pairs"]
        ),
    )


def health_findings(health: HealthReport) -> tuple[str, ...]:
    """What somebody should look at, one phrase each."""
    found = (
        (health.same_file.leaks, "in more than one split (same file)"),
        (health.look_alike.leaks, "in more than one split (look alike)"),
        (health.same_file.label_conflicts, "in more than one class (same file)"),
        (health.look_alike.label_conflicts, "in more than one class (look alike)"),
    )
    pairs = tuple(f"{count:,} {'pair' if count == 1 else 'pairs'} {what}" for count, what in found if count)
    return (*pairs, f"{health.misnamed:,} named as another format") if health.misnamed else pairs


def _doubtful(content: Mapping[str, Any]) -> Doubtful:
    return Doubtful(int(content["pairs"]), int(content["leaks"]), int(content["label_conflicts"]))


def _image(content: Mapping[str, Any]) -> PairImage:
    return PairImage(text(content, "path"), text(content, "split"), text(content, "name"), embedded_png(text(content, "png")))


def embedded_png(encoded: str) -> str:
    """Nothing but a PNG gets into a page."""
    try:
        is_png = base64.b64decode(encoded, validate=True).startswith(PNG_SIGNATURE)
    except binascii.Error:
        is_png = False
    return encoded if is_png else ""
