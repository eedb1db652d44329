"""What the model saw, in the report."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from html import escape

import pytest
from recorded_run import record_preview

from orchestrator.record.folder import RunFolder
from orchestrator.reports.fold import fold
from orchestrator.reports.html import report_html

MakeRun = Callable[..., RunFolder]
HOSTILE = '"><script>alert(1)</script>'


def render(folder: RunFolder) -> str:
    return report_html(fold(folder), ())


def test_the_pictures_stand_under_their_epochs_and_beside_their_class(make_run: MakeRun) -> None:
    """Each is the very PNG of the run folder, with a text for those who do not see it."""
    folder = make_run()
    record_preview(folder, ("Кошка", "dog"))
    page = render(folder)
    assert "What the model saw" in page
    assert "224 x 224 pixels, averaged to 64 x 64 here" in page
    for image in json.loads(folder.preview.read_bytes())["images"]:
        for heading, picture in zip(("evaluated", "epoch 1"), image["pictures"], strict=True):
            assert f'<img src="data:image/png;base64,{picture}" alt="{image["name"]}, {heading}">' in page
    assert render(folder) == page


def test_runs_of_before_have_no_such_section(make_run: MakeRun) -> None:
    """The rest of the page stands, and nothing is called a problem."""
    folder = make_run()
    assert "What the model saw" not in render(folder)
    assert fold(folder).problems == ()


def test_hostile_names_and_pictures_are_inert(make_run: MakeRun) -> None:
    """Names are escaped, and what is no PNG is not shown."""
    folder = make_run()
    record_preview(folder, (HOSTILE, "dog"))
    content = json.loads(folder.preview.read_bytes())
    content["images"][1]["pictures"][0] = base64.b64encode(b"<svg onload=alert(1)>").decode()
    content["images"][1]["pictures"][1] = HOSTILE
    folder.preview.write_text(json.dumps(content))
    page = render(folder)
    assert HOSTILE not in page
    assert escape(HOSTILE).replace("&quot;", "&#34;") in page
    assert page.count("no picture") == 2


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"headings": ["a"], "size": 1, "shown": 1, "images": [{"pictures": []}]}', '{"headings": 3}', '{"images": {}'],
)
def test_a_damaged_file_is_named_and_the_rest_is_reported(make_run: MakeRun, content: str) -> None:
    """It costs the section and nothing else."""
    folder = make_run()
    folder.preview.write_text(content)
    (problem,) = fold(folder).problems
    assert "preview.json could not be read" in problem
    assert "preview.json could not be read" in render(folder)
