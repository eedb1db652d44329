"""Evaluating the model of a run again, on any of its splits."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.dataset.manifest import read_manifest
from orchestrator.durable import read_json
from orchestrator.errors import JobError, Problem, StorageError
from orchestrator.launch.cluster import reached_cluster, starting_engine
from orchestrator.launch.network import check_packages
from orchestrator.launch.run import Watch, is_synthetic, readable_images, stage
from orchestrator.launch.signals import stopping_on_signals
from orchestrator.plan.make import DataFacts, make_plan, with_workers
from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.lock import locked
from orchestrator.reports.summary import write_report
from orchestrator.spec.load import load_job
from orchestrator.stages.stopping import StopRequest


def evaluate_run(
    folder: RunFolder,
    root: Root,
    *,
    split: str = "",
    workers: int | None = None,
    in_process: bool,
    watch: Watch,
    announce: Callable[[str], None],
) -> None:
    """Predict a split with the model of the run; replaces the run's evaluation and its report.

    Args:
        folder: The run.
        root: Holds the prepared data of the run.
        split: Name of a split, or empty for the one that the run itself evaluates.
        workers: Processes that share the split; as many as the run trained with when left out. The result is the same.
        in_process: Without Ray.
        watch: Shows the events.
        announce: Prints a line for the user.

    Raises:
        JobError: The run has no such split, or is not trained.
        StorageError: The prepared data is gone.
    """
    from orchestrator.stages.evaluate import evaluate_model

    if is_synthetic(folder):
        what = "was trained on one batch from memory, to measure speed: it has no model"
        raise JobError((Problem(str(folder.path), what),), "train the job itself: orchestrator run JOB")
    if not folder.weights.is_file():
        raise JobError((Problem(str(folder.path), "has no trained model yet"),), f"orchestrator resume {folder.name}")
    loaded = load_job(folder.resolved_job)
    check_packages(loaded, augments=False)
    data = root.data / str(read_json(folder.plan)["fingerprint"])
    if not data.is_dir():
        raise StorageError(f"the prepared data of {folder.name} is missing: {data}", f"orchestrator resume {folder.name} prepares it again")
    manifest = read_manifest(data)
    images = readable_images(manifest)
    if split and split not in images:
        raise JobError((Problem("--split", f"{split} is not a split of {folder.name}; it has {', '.join(images)}"),))
    facts = DataFacts(manifest.fingerprint, manifest.classes, images)
    stop = StopRequest(folder.stop_request)
    with (
        reached_cluster(root, str(data), in_process=in_process) as reached,
        locked(folder.path),
        stopping_on_signals(stop, announce),
        watch(folder.events),
    ):
        plan = make_plan(loaded.job, facts, reached.shape, str(folder.resolved_job))
        if workers is not None:
            plan = with_workers(plan, workers)
        stop.forget()
        with starting_engine(plan.cluster, in_process=in_process) as engine, stage(folder, "evaluate", stop) as journal:
            evaluate_model(loaded.job, plan, manifest, data, folder, engine(), journal, stop, split)
        write_report(folder)
