"""One page that opens offline, and in which nothing of the user's data can act."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal
from orchestrator.reports.fold import fold
from orchestrator.reports.html import report_html
from orchestrator.reports.mistakes import read_mistakes

MakeRun = Callable[..., RunFolder]
HOSTILE = ("<img src=x onerror=alert(1)>", '"><script>alert(2)</script>', "'; background: url(https://evil.test/a.png)", "{{ 7 * 7 }}")
VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """The elements of a page, their attributes, and whether every one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def render(folder: RunFolder) -> str:
    return report_html(fold(folder), read_mistakes(folder))


@pytest.mark.parametrize(
    ("until", "ending"),
    [
        ("evaluate", "RunFinished"),
        ("train", "RunFailed"),
        ("train", "RunInterrupted"),
        ("train", None),
        ("prepare", None),
        ("prepare", "RunFinished"),
    ],
)
def test_every_kind_of_run_has_a_well_formed_page(make_run: MakeRun, until: str, ending: str | None) -> None:
    """All elements are closed in order, whatever became of the run."""
    page = Page(render(make_run(until=until, ending=ending, epochs=2)))
    assert page.open == []
    assert "fashion-mnist-7f3a" in page.text


def test_the_page_asks_nothing_of_the_network(make_run: MakeRun) -> None:
    """Pictures are inside the page; there are no links, imports or style sheets; the policy of the page forbids them too."""
    text = render(make_run())
    page = Page(text)
    sources = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data")
    ]
    assert sources
    assert all((source or "").startswith("data:image/png;base64,") for source in sources)
    assert not page.all("link")
    assert "url(" not in text
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text
    policy = page.all("meta")[2]["content"] or ""
    assert "default-src 'none'" in policy


def test_the_policy_lets_only_our_own_script_run(make_run: MakeRun) -> None:
    """The hash in the policy is that of the script in the page."""
    text = render(make_run())
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_hostile_names_and_paths_are_inert(make_run: MakeRun) -> None:
    """Class names, paths and errors are shown as they are, and none becomes an element, an attribute or a template."""
    folder = make_run(classes=HOSTILE, paths="<img src=x onerror=alert(3)>")
    Journal(folder.events, "run", "run").record("RunFailed", error="</style><script>alert(4)</script>", next_step="<b onclick=alert(5)>")
    page = Page(render(folder))
    assert len(page.all("script")) == 1
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.all("img"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all("url" not in (attributes.get("style") or "") for _, attributes in page.elements)
    for name in (*HOSTILE, "</style><script>alert(4)</script>", "<b onclick=alert(5)>"):
        assert name in page.text
    assert page.open == []


def test_the_worst_mistakes_are_embedded_with_truth_prediction_and_path(make_run: MakeRun) -> None:
    """Each picture is the very PNG of the evaluation."""
    folder = make_run()
    page = Page(render(folder))
    images = page.all("img")
    assert len(images) == 24
    first = read_mistakes(folder)[0]
    assert base64.b64decode((images[0]["src"] or "").removeprefix("data:image/png;base64,")) == first.png
    assert images[0]["alt"] == "T-shirt taken for Trouser"
    assert first.path in page.text


def test_all_drawings_are_well_formed(make_run: MakeRun) -> None:
    """Six curves, each of which an XML parser accepts."""
    drawings = re.findall(r"<svg.*?</svg>", render(make_run()), re.DOTALL)
    assert len(drawings) == 6
    for drawing in drawings:
        assert ET.fromstring(drawing).tag == "svg"  # noqa: S314 -- our own text


def test_many_classes_get_a_list_of_confusions_instead_of_a_matrix(make_run: MakeRun) -> None:
    """Above 40 classes a matrix cannot be read."""
    few, many = render(make_run()), render(make_run(classes=[f"class-{place}" for place in range(41)]))
    assert 'class="matrix"' in few
    assert 'class="matrix"' not in many
    assert "most frequent confusions" in many


def test_the_page_tells_the_figures_of_the_run(make_run: MakeRun) -> None:
    """Accuracy, limit, rejects with reasons, decisions with reasons and the job are on the page."""
    text = Page(render(make_run())).text
    for wanted in (
        "90.09%",
        "Computing took 82%",
        "truncated",
        "hidden file",
        "64 MiB of pixels at 28 x 28",
        "source: /images/fashion-mnist",
        "5 times",
    ):
        assert wanted in text


def test_what_is_no_png_is_not_shown(make_run: MakeRun) -> None:
    """Only bytes that begin like a PNG become a picture."""
    folder = make_run()
    table = pq.read_table(folder.mistakes)
    pictures = [b"<svg onload=alert(1)>", None, *table["png"].to_pylist()[2:]]
    pq.write_table(table.set_column(table.column_names.index("png"), "png", pa.array(pictures, pa.binary())), folder.mistakes)
    text = render(folder)
    assert len(Page(text).all("img")) == 22
    assert text.count("no picture") == 2
