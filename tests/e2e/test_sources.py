"""Sources other than folders, as users type them: real processes, a real Ray, a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path

from s3_server import S3Server
from shell import Shell


def prepared(place: Path) -> dict[str, object]:
    (manifest,) = place.glob("data/*/manifest.json")
    content: dict[str, object] = json.loads(manifest.read_bytes())
    return content


def test_a_bucket_is_prepared_by_workers_of_ray(shell: Shell, s3_server: S3Server) -> None:
    """`data.source=s3://...` on the command line: the workers reach the storage, and the shards are those of the folder."""
    shell.environment |= s3_server.environment
    shell.write_job()
    address = s3_server.upload(shell.place / "images", "typed", "shapes")
    remote = shell("prepare", "job.yaml", f"data.source={address}", "--root", str(shell.place / "remote"))
    local = shell("prepare", "job.yaml", "--in-process", "--root", str(shell.place / "local"))

    assert remote.returncode == 0, remote.stderr
    assert local.returncode == 0, local.stderr
    assert prepared(shell.place / "remote")["shards"] == prepared(shell.place / "local")["shards"]


def test_what_a_manifest_says_wrong_is_exit_code_2(shell: Shell) -> None:
    """The file, the columns it has and those it needs, in one line."""
    shell.write_job()
    (shell.place / "list.csv").write_text("file,class\na.jpg,cat\n")
    done = shell("plan", "job.yaml", "data.source=list.csv")

    assert done.returncode == 2
    assert "list.csv: has no column uri and no column label; its columns are file, class" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bucket_that_is_not_there_is_one_line(shell: Shell, s3_server: S3Server) -> None:
    """Exit code 1 with the address and what the storage said."""
    shell.environment |= s3_server.environment
    shell.write_job()
    done = shell("prepare", "job.yaml", "data.source=s3://no-such-bucket/x", "--in-process")

    assert done.returncode == 1
    assert "cannot read s3://no-such-bucket/x" in done.stderr
    assert "Traceback" not in done.stderr


def test_rejects_are_tried_again_by_a_flag(shell: Shell) -> None:
    """Before anything is prepared, and where nothing was rejected, it says so and goes on."""
    shell.write_job()
    first = shell("prepare", "job.yaml", "--retry-rejects", "--in-process")
    second = shell("prepare", "job.yaml", "--retry-rejects", "--in-process")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "never prepared to the end" in first.stderr
    assert "no image of" in second.stderr
