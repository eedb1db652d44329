"""Preparing is killed, or failed, at every single system call that changes a file: no image is lost and none is there twice."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from prepared_data import faults_of_visible, faults_of_whole
from tracing import Call, Ended, ForkServer, ForkServers, kill_at, parse_log
from write_order import order_faults

ERRORS = {
    "ENOSPC": {"openat", "mkdir", "write", "pwrite64", "ftruncate", "fsync", "rename", "link", "unlink"},
    "EIO": {"write", "pwrite64", "fsync"},
    "EDQUOT": {"mkdir"},
}
"""The system calls that are failed with each."""
DONE = Ended(0, "")


@dataclass(frozen=True)
class Undisturbed:
    """What a run does and leaves when nothing happens to it."""

    start: Path
    """A copy of what it found."""
    calls: list[Call]
    """The system calls by which it changed files."""
    manifest: bytes


@pytest.fixture(scope="module")
def from_nothing(preparers: ForkServers, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Nothing is prepared yet."""
    start = tmp_path_factory.mktemp("nothing")
    return watch(preparers.one(), start, tmp_path_factory.mktemp("from-nothing"))


@pytest.fixture(scope="module")
def from_a_crash(preparers: ForkServers, from_nothing: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A writer was killed before its last step, and another one long ago after its first shard."""
    start = tmp_path_factory.mktemp("crash")
    (link,) = (call for call in from_nothing.calls if call.name == "link" and call.paths[-1].name == "manifest.json")
    killed = preparers.one().trace(start, start / "log", *kill_at(link))
    assert killed.code == -9
    (shards,) = start.glob("data/*/shards")
    (shards / f"{'0' * 32}.parquet").write_bytes(b"PAR1")
    return watch(preparers.one(), start, tmp_path_factory.mktemp("from-a-crash"))


@pytest.fixture(params=[pytest.param("from_nothing", marks=pytest.mark.slow), "from_a_crash"])
def undisturbed(request: pytest.FixtureRequest) -> Undisturbed:
    """Every promise holds for a first run and for one that mends what another left."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def watch(preparer: ForkServer, start: Path, around: Path) -> Undisturbed:
    """Run twice: the calls are the same each time, so that a call is known by its number."""
    seen: list[list[Call]] = []
    for place in (around / "first", around / "second"):
        shutil.copytree(start, place)
        seen.append(traced_calls(preparer, place))
    assert [(call.name, call.nth) for call in seen[0]] == [(call.name, call.nth) for call in seen[1]]
    (manifest,) = place.glob("data/*/manifest.json")
    return Undisturbed(start, seen[1], manifest.read_bytes())


def traced_calls(preparer: ForkServer, place: Path) -> list[Call]:
    """The changing calls of a run to the end."""
    log = place.with_suffix(".log")
    assert preparer.trace(place, log) == DONE
    return [call for call in parse_log(log.read_text()) if call.changes(place)]


def check(found: list[list[str]]) -> None:
    """Fails with the faults of all points, one line each."""
    faults = [fault for at_point in found for fault in at_point]
    assert not faults, "\n".join(faults)


def test_killed_at_any_point_and_run_again_nothing_is_lost_or_doubled(
    preparers: ForkServers, undisturbed: Undisturbed, source: Path, tmp_path: Path
) -> None:
    """A reader never sees part of a data set, and the next run ends with the same manifest and every image once."""

    def visit(preparer: ForkServer, call: Call) -> list[str]:
        place = tmp_path / f"{call.name}-{call.nth}"
        shutil.copytree(undisturbed.start, place)
        killed = preparer.trace(place, place.with_suffix(".log"), *kill_at(call))
        faults = [f"ended with {killed}"] * (killed.code != -9) + faults_of_visible(place, source)
        again = preparer.run(place)
        faults += [f"then ended with {again}"] * (again != DONE) + faults_of_whole(place, source, undisturbed.manifest)
        return [f"killed at {call}: {fault}" for fault in faults]

    check(preparers.at_each(undisturbed.calls, visit))


def test_enough_points_are_visited(from_nothing: Undisturbed, from_a_crash: Undisturbed) -> None:
    """The enumeration covers each kind of call on each kind of file; it cannot silently become empty."""
    counts = Counter(call.name for call in from_nothing.calls)
    assert {"openat", "mkdir", "write", "pwrite64", "ftruncate", "fsync", "rename", "link", "unlink"} == set(counts)
    assert counts["fsync"] >= 20
    assert counts.total() >= 80
    made = {call.paths[-1].name.partition("-")[0] for call in from_nothing.calls if call.name in ("rename", "link")}
    assert {"splits", "listing.parquet", "00000002.json", "rejects.parquet", "manifest.json", "health.json"} <= made
    assert any(call.name == "unlink" and call.paths[-1].name == f"{'0' * 32}.parquet" for call in from_a_crash.calls)


@pytest.mark.slow
def test_an_error_at_any_point_is_named_and_run_again_nothing_is_lost_or_doubled(
    preparers: ForkServers, undisturbed: Undisturbed, source: Path, tmp_path: Path
) -> None:
    """Full, over quota, failing: the run ends with an error of storage that names the path, and the next run ends as if nothing had been.

    What does not matter to the result does not end the run: making a folder that is there, and removing what nobody reads.
    """

    def visit(preparer: ForkServer, point: tuple[str, Call]) -> list[str]:
        error, call = point
        place = tmp_path / f"{error}-{call.name}-{call.nth}"
        shutil.copytree(undisturbed.start, place)
        failed = preparer.trace(place, place.with_suffix(".log"), "-e", f"inject={call.name}:error={error}:when={call.nth}")
        faults = [f"ended with {failed}"] * (not is_fitting(failed, call, place)) + faults_of_visible(place, source)
        again = preparer.run(place)
        faults += [f"then ended with {again}"] * (again != DONE) + faults_of_whole(place, source, undisturbed.manifest)
        return [f"{error} at {call}: {fault}" for fault in faults]

    points = [(error, call) for error, names in ERRORS.items() for call in undisturbed.calls if call.name in names]
    check(preparers.at_each(points, visit))


def is_fitting(ended: Ended, call: Call, place: Path) -> bool:
    if call.name == "unlink" or (call.name == "mkdir" and "EEXIST" in call.result):
        return ended == DONE
    return ended.code == 6 and f"cannot write {place}" in ended.said and len(ended.said.splitlines()) == 2


def test_everything_lasts_before_it_is_named(from_nothing: Undisturbed, preparers: ForkServers, tmp_path: Path) -> None:
    """Content is fsynced before its name is seen; names are fsynced before a record or the manifest that leads to them is seen."""
    assert order_faults(traced_calls(preparers.one(), tmp_path / "run"), tmp_path / "run") == []


@pytest.mark.slow
def test_what_a_killed_run_left_lasts_before_it_is_named(preparers: ForkServers, from_nothing: Undisturbed, tmp_path: Path) -> None:
    """Killed or failed before any fsync, the next run makes up for it: it trusts no name that a power cut could take back."""

    def visit(preparer: ForkServer, point: tuple[str, Call]) -> list[str]:
        how, call = point
        place = tmp_path / f"{how.partition('=')[2]}-{call.nth}"
        log = place.with_suffix(".first")
        assert preparer.trace(place, log, "-e", f"inject=fsync:{how}:when={call.nth}").code in (-9, 6)
        calls = parse_log(log.read_text()) + traced_calls(preparer, place)
        return [f"{how} at {call}: {fault}" for fault in order_faults(calls, place)]

    points = [(how, call) for how in ("signal=SIGKILL", "error=EIO") for call in from_nothing.calls if call.name == "fsync"]
    check(preparers.at_each(points, visit))


@pytest.mark.parametrize("forgotten", ["content", "folder"])
def test_a_forgotten_fsync_is_seen(from_nothing: Undisturbed, preparers: ForkServers, tmp_path: Path, forgotten: str) -> None:
    """The check bites: without the fsync of a shard, or of the folder it lies in, the log is at fault."""
    place = tmp_path / "run"
    calls = traced_calls(preparers.one(), place)
    suffix = ".tmp" if forgotten == "content" else "shards"
    without = [call for call in calls if not (call.name == "fsync" and call.paths[-1].name.endswith(suffix))]
    assert order_faults(without, place) != []
