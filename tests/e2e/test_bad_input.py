"""What is wrong is said in a few lines with the next step, with the right exit code, and nothing is left that a second run would trust."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ray_processes import working_in
from shell import Shell, wait_until

from orchestrator.testing import write_image_folder


def missing(place: Path) -> None:
    """There is no folder."""


def empty(place: Path) -> None:
    (place / "images").mkdir()


def one_class(place: Path) -> None:
    write_image_folder(place / "images", classes=("disc",), images_per_class=5, size=16)


def text_files(place: Path) -> None:
    for name in ("cat", "dog"):
        (place / "images" / name).mkdir(parents=True)
        (place / "images" / name / "note.txt").write_text("no image")


def not_images(place: Path) -> None:
    for name in ("cat", "dog"):
        (place / "images" / name).mkdir(parents=True)
        for number in range(8):
            (place / "images" / name / f"{number}.jpg").write_text("no image")


def good(place: Path) -> None:
    write_image_folder(place / "images", classes=("disc", "ring"), images_per_class=20, size=16)


CASES = {
    "a missing folder": (missing, (), 2, "images"),
    "an empty folder": (empty, (), 2, "empty"),
    "one class only": (one_class, (), 2, "one class"),
    "a folder of text files": (text_files, (), 2, ".txt"),
    "text files named as images": (not_images, ("train.batch=4",), 1, "none of the 16 images"),
    "an unknown key": (good, ("train.epoch=3",), 2, 'did you mean "epochs"'),
    "a negative number of epochs": (good, ("train.epochs=-1",), 2, "at least 1"),
    "a batch larger than the data": (good, ("train.batch=4096",), 2, "train.batch="),
}


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_bad_input_is_named_with_its_exit_code(shell: Shell, case: str) -> None:
    """Each kind of bad input: the exit code, the words that matter, no traceback, and no trained run."""
    make, overrides, code, words = CASES[case]
    make(shell.place)
    job = shell.place / "job.yaml"
    job.write_text("name: shapes\ndata: {source: images, image: {size: 16}}\n")
    done = shell("run", "job.yaml", *overrides, "--in-process")

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 8
    assert not list(shell.place.glob("runs/*/model/weights.safetensors"))


def test_a_network_that_cannot_be_is_refused_while_ray_starts(shell: Shell) -> None:
    """The weights are missing: exit code 2 with the file, no run folder, and nothing of Ray is left."""
    shell.write_job()
    refused = shell("run", "job.yaml", "model.weights=/nowhere.safetensors")

    assert refused.returncode == 2, refused.stderr
    assert "/nowhere.safetensors" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(shell.place.glob("runs/*/job.yaml"))
    wait_until(lambda: not list(working_in(shell.place)))


def test_a_full_disk_is_exit_code_6_and_the_next_run_goes_on(shell: Shell, small_disk: Callable[[int], Path]) -> None:
    """The run stops with one line; after space was freed the same command finishes, and every promised file is there."""
    shell.write_job()
    root = small_disk(3)
    ballast = root / "ballast"
    ballast.write_bytes(b"x" * (3 * 2**20 - 64 * 2**10))
    full = shell("run", "job.yaml", "--root", str(root), "--in-process")

    assert full.returncode == 6, full.stderr
    assert "space" in full.stderr
    assert "Traceback" not in full.stderr

    ballast.unlink()
    done = shell("run", "job.yaml", "--root", str(root), "--in-process")
    assert done.returncode == 0, done.stderr
    assert list(root.glob("runs/*/evaluation/metrics.json"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[int], Path]:
    """A file system of a few MiB; only root may mount one."""
    mounted: list[Path] = []

    def mount(size_mib: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--address", "http://127.0.0.1:1"], 3, "no Ray cluster answers at http://127.0.0.1:1"),
        (["--address", "ray://127.0.0.1:10001"], 2, "is not the address of a Ray dashboard"),
        ([], 2, "which cluster?"),
        (["--dry-run", "--package", "nowhere"], 2, "no such folder to send"),
        (["train.epoch=3", "--dry-run"], 2, 'did you mean "epochs"'),
    ],
)
def test_a_submission_that_cannot_be_sent_is_one_line(shell: Shell, words: list[str], code: int, message: str) -> None:
    """The exit code says whether the cluster or the call is to blame."""
    shell.write_job(images_per_class=2)
    done = shell("submit", "job.yaml", *words)

    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_what_would_travel_is_shown_without_a_cluster(shell: Shell) -> None:
    """Every file, the largest with their sizes, and the command; nothing is sent."""
    shell.write_job(images_per_class=2)
    done = shell("submit", "job.yaml", "--dry-run")

    assert done.returncode == 0
    assert "images/disc/00000.png\n" in done.stdout
    assert "7 files," in done.stdout
    assert "command  python -m orchestrator.cli.main run" in done.stdout
