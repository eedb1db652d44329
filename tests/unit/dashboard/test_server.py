"""The dashboard's server, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import pytest
from aiohttp import web
from recorded_run import write_run

from orchestrator.dashboard.server import make_app
from orchestrator.record.folder import Root
from orchestrator.record.journal import Journal
from orchestrator.record.lock import locked


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> object:
        return json.loads(self.text)


class Site:
    """The server in a thread of this process, and a client for it."""

    def __init__(self, root: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.runner = web.AppRunner(make_app(Root(root)))
        self.loop.run_until_complete(self.runner.setup())
        self.loop.run_until_complete(web.TCPSite(self.runner, "127.0.0.1", 0).start())
        self.port = self.runner.addresses[0][1]
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def test_the_list_shows_every_run_with_how_it_stands(site: Site, tmp_path: Path) -> None:
    """Done, failed and lost runs; the newest first; a folder without a job is no run."""
    write_run(tmp_path, "first")
    write_run(tmp_path, "second", until="train", ending="RunFailed")
    write_run(tmp_path, "third", until="train", ending=None)
    (tmp_path / "runs" / "not-a-run").mkdir()
    listed = site.get("/api/runs").json()

    assert isinstance(listed, list)
    assert [(run["run"], run["status"]) for run in listed] == [("third", "lost"), ("second", "failed"), ("first", "done")]
    page = site.get("/").text
    assert all(f'href="/runs/{name}"' in page for name in ("first", "second", "third"))
    assert "not-a-run" not in page


def test_a_run_is_running_while_somebody_holds_it(site: Site, tmp_path: Path) -> None:
    """The lock tells a running run from one whose process was killed."""
    folder = write_run(tmp_path, "held", until="train", ending=None)
    with locked(folder.path):
        assert '<span class="status running">running</span>' in site.get("/runs/held").text
    assert '<span class="status lost">lost</span>' in site.get("/runs/held").text
    assert "orchestrator resume held" in site.get("/runs/held").text


def test_the_page_of_a_run_shows_curves_log_events_and_the_report(site: Site, tmp_path: Path) -> None:
    """All of it made from the folder of the run alone."""
    write_run(tmp_path, "whole")
    page = site.get("/runs/whole").text
    report = site.get("/runs/whole/report")

    assert "Loss by epoch" in page
    assert "train: epoch 5/5, loss" in page
    assert "CheckpointSaved" in page
    assert (report.status, "Worst mistakes" in report.text) == (200, True)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_an_open_page_is_sent_again_only_when_the_run_has_changed(site: Site, tmp_path: Path) -> None:
    """304 while nothing happens, the new state after an event."""
    folder = write_run(tmp_path, "live", until="train", ending=None)
    first = site.get("/runs/live/live")
    again = site.get("/runs/live/live", If_None_Match=first.headers["ETag"])
    Journal(folder.events, "run", "run").record("RunFailed", error="the lights went out", next_step="")
    changed = site.get("/runs/live/live", If_None_Match=first.headers["ETag"])

    assert (first.status, again.status, again.text) == (200, 304, "")
    assert (changed.status, "the lights went out" in changed.text) == (200, True)


def test_trials_have_pages_of_their_own(site: Site, tmp_path: Path) -> None:
    """A trial is a run inside a run, under its number, and as alive as the study around it."""
    folder = write_run(tmp_path, "study")
    write_run(folder.trials, "000", until="train", ending=None)
    (folder.trials / "runs" / "000").rename(folder.trials / "000")
    with locked(folder.path):
        page = site.get("/runs/study/trials/000").text

    assert 'href="/runs/study/trials/000"' in site.get("/runs/study").text
    assert "Loss by epoch" in page
    assert '<span class="status running">running</span>' in page


@pytest.mark.parametrize(
    "path",
    [
        "/runs/none",
        "/runs/..",
        "/runs/%2e%2e%2fsecret",
        "/runs/a%2fb/report",
        "/runs/a/trials/..",
        "/static/..%2fserver.py",
        "/static/x",
        "/x",
    ],
)
def test_only_runs_can_be_named(site: Site, tmp_path: Path, path: str) -> None:
    """No address leads out of the run folders: 404."""
    write_run(tmp_path, "a")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "job.yaml").write_text("name: secret")

    assert site.get(path).status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "", "localhost.evil.example:80"])
def test_other_names_of_the_server_are_refused(site: Site, host: str) -> None:
    """A page elsewhere that points a name of its own at this machine reads nothing."""
    assert site.get("/api/runs", Host=host).status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:99", "[::1]:8700", "[::1]"])
def test_names_of_this_machine_are_answered(site: Site, host: str) -> None:
    """Also at the end of a forwarded port."""
    assert site.get("/api/runs", Host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(site: Site, tmp_path: Path, method: str) -> None:
    """Only reading is answered."""
    write_run(tmp_path, "a")

    assert site.get("/runs/a", method).status == 405


def test_what_a_run_says_is_escaped(site: Site, tmp_path: Path) -> None:
    """Names, errors and events cannot become tags on any page."""
    attack = "<img src=x onerror=alert(1)>"
    folder = write_run(tmp_path, "a&b", until="evaluate", ending=None, classes=(attack, "b", "c"), paths=attack)
    Journal(folder.events, "run", attack).record("RunFailed", error=attack, next_step=attack)
    for path in ("/", "/runs/a&b", "/runs/a&b/live", "/runs/a&b/report"):
        answer = site.get(path)
        assert (answer.status, attack in answer.text) == (200, False)


def test_every_answer_carries_the_guarding_headers(site: Site, tmp_path: Path) -> None:
    """Also errors: no sniffing, no frames, no scripts but our own."""
    write_run(tmp_path, "a")
    for path in ("/", "/runs/a", "/runs/a/report", "/runs/none", "/api/runs", "/static/live.js", "/nothing"):
        headers = site.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
    policy = site.get("/runs/a").headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self';" in policy


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", "1.5", "%D9%A3"])
def test_a_wrong_limit_is_named(site: Site, tmp_path: Path, limit: str) -> None:
    """400, and what would be right."""
    write_run(tmp_path, "a")
    answer = site.get(f"/api/runs/a/events?limit={limit}")

    assert (answer.status, answer.text) == (400, "limit is a number from 1 to 10000\n")


def test_the_newest_events_come_as_json(site: Site, tmp_path: Path) -> None:
    """In their order, as many as asked for."""
    write_run(tmp_path, "a")
    events = site.get("/api/runs/a/events?limit=2").json()

    assert isinstance(events, list)
    assert [event["event"] for event in events] == ["StageFinished", "RunFinished"]


def test_a_damaged_run_does_not_take_the_list_down(site: Site, tmp_path: Path) -> None:
    """Its own page says which file is damaged."""
    folder = write_run(tmp_path, "broken")
    folder.metrics.write_text("{")
    folder.mistakes.write_bytes(b"PAR1")
    write_run(tmp_path, "fine")

    assert site.get("/").status == 200
    page = site.get("/runs/broken").text
    assert "metrics.json could not be read" in page
    assert "mistakes.parquet could not be read" in page
