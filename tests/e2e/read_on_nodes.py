"""A program that reads a feed on a cluster as a worker group would, and prints the nodes that may read and those that did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ray.util.state import list_tasks

from orchestrator.dataset.manifest import is_prepared, read_manifest
from orchestrator.stages.augmentation import view_of
from orchestrator.stages.cluster import reading_nodes, running_cluster
from orchestrator.stages.feed import Feed
from orchestrator.stages.ingest import batches_of_rank, make_dataset


def main(address: str, root: Path) -> None:
    (data,) = (folder for folder in (root / "data").iterdir() if is_prepared(folder))
    manifest = read_manifest(data)
    feed = Feed(data, manifest, view_of(manifest.image, manifest.image.size), workers=1, evaluation_rows=1, split="train")
    with running_cluster(address) as (_, dashboard):
        may = reading_nodes()
        dataset = make_dataset(feed, may)
        (shard,) = dataset.streaming_split(1, equal=True)
        images = sum(len(batch.labels) for batch in batches_of_rank(shard, 0, 1))
        tasks = list_tasks(address=f"http://{dashboard}", filters=[("name", "=", "ReadFeed")], detail=True, limit=1000)
        did = sorted({task.node_id for task in tasks if task.node_id})
    print(json.dumps({"may": may, "did": did, "images": images}))  # noqa: T201 -- what it is for


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
