"""The dashboard as a person sees it: the real program, a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import PROGRAM, Browser
from recorded_run import record_epoch, record_evaluation, write_run

from orchestrator.record.journal import Journal
from orchestrator.record.lock import locked

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium on this machine: apt-get install chromium")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "browser")
    yield browser
    browser.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The dashboard over the runs in `tmp_path`, on a free port."""
    command = [sys.executable, "-m", "orchestrator.cli.main", "dashboard", "--root", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(20) == 0


def test_a_running_run_is_seen_to_move(browser: Browser, address: str, tmp_path: Path) -> None:
    """Epochs, log and status change on the open page, without an error of a script, without a request to anybody else."""
    folder = write_run(tmp_path, "moving", until="train", ending=None, epochs=5)
    with locked(folder.path):
        browser.open(f"{address}/runs/moving")
        assert browser.evaluate("document.querySelector('header .status').textContent") == "running"
        record_epoch(Journal(folder.events, "train-0", "train"), 5, 6)
        browser.wait_for("document.body.textContent.includes('train: epoch 6')")
        record_evaluation(folder, ("disc", "ring"), "test")
        Journal(folder.events, "run", "run").record("RunFinished", seconds=1.0)
        browser.wait_for("document.querySelector('header .status').textContent === 'done'")
    browser.wait_for("document.body.textContent.includes('Worst mistakes')")
    browser.screenshot(tmp_path / "run.png")

    assert browser.complaints() == []
    assert [url for url in browser.requested() if not url.startswith((address, "data:", "about:"))] == []
    assert (tmp_path / "run.png").stat().st_size > 20_000


def test_the_list_leads_to_runs_and_keeps_the_order_that_was_chosen(browser: Browser, address: str, tmp_path: Path) -> None:
    """A click on a head sorts, also after the list has been refreshed; a click on a name opens the run."""
    for name in ("bee", "ant", "cat"):
        write_run(tmp_path, name)
    browser.open(address)
    names = "[...document.querySelectorAll('.runs tbody a')].map(a => a.textContent).join()"
    assert browser.evaluate(names) == "cat,ant,bee"
    browser.evaluate("document.querySelector('.runs th').click()")
    assert browser.evaluate(names) == "ant,bee,cat"
    write_run(tmp_path, "aardvark")
    browser.wait_for(f"{names} === 'aardvark,ant,bee,cat'")
    browser.evaluate("document.querySelector('.runs tbody a').click()")
    browser.wait_for("location.pathname === '/runs/aardvark' && document.readyState === 'complete'")
    assert browser.complaints() == []


def test_a_hostile_run_runs_nothing_in_the_browser(browser: Browser, address: str, tmp_path: Path) -> None:
    """Tags in names of classes, files, errors and events stay text, on the first load and after a refresh."""
    attack = "<img src=x onerror='document.title=\"owned\"'><script>document.title='owned'</script>"
    folder = write_run(tmp_path, "hostile", ending=None, classes=(attack, "b", "c"), paths=attack)
    for path in ("/runs/hostile", "/runs/hostile/report", "/"):
        browser.open(address + path)
        Journal(folder.events, "run", attack).record("RunFailed", error=attack + path, next_step=attack)
        if path == "/runs/hostile":
            browser.wait_for(f"document.body.textContent.includes({(attack + path)!r})")
        assert browser.evaluate("document.title") != "owned"
        assert browser.evaluate("document.querySelectorAll('img[src=x]').length") == 0


def test_a_server_that_has_gone_is_said_to_be_gone(browser: Browser, tmp_path: Path) -> None:
    """The page stays, and says that it gets no answer."""
    write_run(tmp_path, "a")
    command = [sys.executable, "-m", "orchestrator.cli.main", "dashboard", "--root", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        browser.open(process.stdout.readline().strip())
        process.terminate()
    browser.wait_for("document.getElementById('connection').textContent.includes('no answer')")
    assert "a" in browser.evaluate("document.querySelector('.runs').textContent")
