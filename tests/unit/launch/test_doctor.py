"""The doctor looks at the real machine; the faults are real too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.launch import doctor as doctor_module
from orchestrator.launch.doctor import Check, Status, cpu_quota, examine, missing_codecs

REPOSITORY = Path(__file__).parents[3]
PROGRAM = "import typer\nfrom orchestrator.cli import doctor_verb\napp = typer.Typer()\ndoctor_verb.register(app)\napp()"


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The verb, in a process of its own, its output piped."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def named(checks: tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_every_fault_comes_with_a_fix(tmp_path: Path) -> None:
    """Each line that is not ok says what to do, every line says what was found, and names do not repeat."""
    checks = examine(tmp_path)
    assert all(check.found for check in checks)
    assert [check.name for check in checks if check.status != Status.OK and not check.fix] == []
    assert len({check.name for check in checks}) == len(checks)


def test_a_usable_root_is_left_as_it_was(tmp_path: Path) -> None:
    """The check writes for real and leaves nothing behind, also where the folder did not exist."""
    assert named(examine(tmp_path / "a/b"), "root folder").status == Status.OK
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_fails(tmp_path: Path) -> None:
    """A path that cannot hold folders is a failing line, not an exception."""
    (tmp_path / "file").write_text("in the way")
    assert named(examine(tmp_path / "file/root"), "root folder").status == Status.FAIL


def test_a_root_whose_name_no_file_system_takes_fails(tmp_path: Path) -> None:
    """A path that cannot even be looked at is a failing line, not an exception."""
    checks = examine(tmp_path / ("x" * 300))
    assert named(checks, "root folder").status == Status.FAIL
    assert f"free at {tmp_path}" in named(checks, "disk").found


def test_a_full_root_fails_with_exit_code_1(tiny: Path) -> None:
    """A file system without space gives failing lines for disk and folder, with fixes, and exit code 1."""
    done = doctor("--root", str(tiny), "--json")
    lines = {line["name"]: line for line in json.loads(done.stdout)}
    assert done.returncode == 1
    assert {lines[name]["status"] for name in ("disk", "root folder")} == {"fail"}
    assert lines["disk"]["fix"]
    assert "No space left" in lines["root folder"]["found"]
    assert list(tiny.iterdir()) == []


def test_libraries_that_do_not_import_are_lines(tmp_path: Path) -> None:
    """A broken library is a failing line with its own words and a fix; the other lines are still there."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    (tmp_path / "ray.py").write_text("__version__ = '2.9.0'")
    done = doctor("--root", str(tmp_path), PYTHONPATH=f"{tmp_path}:{REPOSITORY}")
    assert done.returncode == 1
    assert "fail  OpenCV: ImportError: libGL.so.1: cannot open shared object file\n      fix: pip install" in done.stdout
    assert "fail  Ray: 2.9.0" in done.stdout
    assert "Python: " in done.stdout


def test_a_driver_without_a_cuda_build_of_torch_fails(tmp_path: Path) -> None:
    """GPUs that torch cannot use are a failing line; a driver that does not answer is a warning."""
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    is_available = staticmethod(lambda: False)\nclass version:\n    cuda = None\n__version__ = '2.13.0+cpu'"
    )
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA X, 999.1'")
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    done = doctor("--root", str(tmp_path), **environment)
    assert "ok    NVIDIA driver: NVIDIA X, 999.1" in done.stdout
    assert "fail  torch: 2.13.0+cpu: built without CUDA" in done.stdout
    hidden = doctor("--root", str(tmp_path), **environment, CUDA_VISIBLE_DEVICES="")
    assert "ok    torch: 2.13.0+cpu, CPU: CUDA_VISIBLE_DEVICES hides the GPUs" in hidden.stdout
    program.write_text("#!/bin/sh\necho 'no devices' >&2\nexit 9")
    assert "warn  NVIDIA driver: no devices" in doctor("--root", str(tmp_path), **environment).stdout


def test_paths_too_long_for_sockets_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files under which Ray cannot make its sockets is a failing line."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 60)))
    assert named(examine(tmp_path), "temporary folder").status == Status.FAIL


def test_codecs_are_read_from_the_words_of_opencv() -> None:
    """A codec that is listed as NO, or not at all, is missing; JPEG 2000 is not JPEG."""
    assert missing_codecs("    JPEG:    build\n    PNG:    NO\n    JPEG 2000:   build\n") == ("PNG", "WEBP")
    assert missing_codecs("    JPEG 2000:   build\n") == ("JPEG", "PNG", "WEBP")


@pytest.mark.parametrize(
    ("words", "cpus"),
    [(("150000", "100000"), 1.5), (("max", "100000"), None), (("-1", "100000"), None), ((), None)],
    ids=["limited", "version 2 without limit", "version 1 without limit", "no control group"],
)
def test_quotas_are_read_in_cpus(words: tuple[str, ...], cpus: float | None) -> None:
    """Quota and period are CPUs; without a limit there is no quota, not a quota of nothing."""
    assert cpu_quota(words) == cpus


def test_limits_of_a_container_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a CPU and a GiB of memory are warnings on any machine; where no limits are written down there are none."""
    monkeypatch.setattr(doctor_module, "CONTROL_GROUPS", tmp_path)
    unlimited = examine(tmp_path / "root")
    assert "quota" not in named(unlimited, "CPUs").found
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    limited = examine(tmp_path / "root")
    assert "with a quota of 0.5" in named(limited, "CPUs").found
    assert named(limited, "memory") == Check("memory", Status.WARN, "1.0 GiB", named(limited, "memory").fix)
    assert named(limited, "CPUs").status == Status.WARN


def test_a_machine_that_cannot_reach_itself_fails(tmp_path: Path) -> None:
    """Without a loopback interface there is a failing line, and the others are still there."""
    apart = ["unshare", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a namespace without network cannot be made here")
    done = subprocess.run(
        [*apart, sys.executable, "-c", PROGRAM, "--root", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "fail  loopback: no connection to 127.0.0.1" in done.stdout
    assert "ok    root folder: " in done.stdout


def test_a_ray_left_behind_is_named(tmp_path: Path) -> None:
    """A raylet that runs is a warning with its process id."""
    program = tmp_path / "raylet"
    shutil.copy(shutil.which("cat") or "/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"  # it has its name only once it runs
        check = named(examine(tmp_path), "Ray processes")
        process.kill()
    assert check.status == Status.WARN
    assert str(process.pid) in check.found
