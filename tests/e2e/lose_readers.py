"""A program that reads a feed as the driver of a worker group does, prints a line when it reads, and another one when no node is left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ray.exceptions import RayError

from orchestrator.dataset.manifest import is_prepared, read_manifest
from orchestrator.stages.augmentation import view_of
from orchestrator.stages.cluster import reading_nodes, running_cluster
from orchestrator.stages.feed import Feed
from orchestrator.stages.ingest import batches_of_rank, streams
from orchestrator.stages.placing import ReaderWatch

WITHIN_S = 120.0


def main(address: str, root: Path) -> None:
    (data,) = (folder for folder in (root / "data").iterdir() if is_prepared(folder))
    manifest = read_manifest(data)
    feed = Feed(data, manifest, view_of(manifest.image, manifest.image.size), workers=2, evaluation_rows=1, split="train")
    with running_cluster(address):
        nodes = reading_nodes()
        with streams(feed, 1, nodes) as shards:  # nobody takes the second one, so that the reading never comes to its end
            watch, deadline = ReaderWatch(shards, nodes), time.monotonic() + WITHIN_S
            say(f"{len(nodes)} reads")
            while not watch.lost and time.monotonic() < deadline:
                watch.look()
                time.sleep(0.05)
            try:
                next(batches_of_rank(shards[0], 0, 2))
            except RayError as error:
                say(f"lost: {watch.lost}, {type(error).__name__}")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- what it is for


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
