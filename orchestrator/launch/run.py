"""A run from beginning to end: what is done already is kept, the rest is done, and everything is written down."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from orchestrator import __version__
from orchestrator.dataset.manifest import Manifest, is_prepared, read_manifest
from orchestrator.dataset.splits import remember_splits
from orchestrator.durable import read_json, write_atomically, write_json
from orchestrator.errors import Interrupted, JobError, OrchestratorError, Problem, StorageError
from orchestrator.launch.cluster import reached_cluster, starting_engine
from orchestrator.launch.images import FoundImages, find_images
from orchestrator.launch.network import check_packages, network_facts
from orchestrator.launch.signals import stopping_on_signals
from orchestrator.plan.make import DataFacts, as_synthetic, make_plan
from orchestrator.plan.values import ClusterShape, ModelFacts, Plan
from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.journal import Journal, read_events
from orchestrator.record.lock import locked
from orchestrator.reports.fold import SYNTHETIC, RunReport, fold
from orchestrator.reports.summary import write_report
from orchestrator.spec.job import JobSpec, resolved
from orchestrator.spec.load import LoadedJob, load_job
from orchestrator.spec.tune import tuned_job
from orchestrator.spec.yaml import dump_yaml
from orchestrator.stages.engine import Engine
from orchestrator.stages.stopping import StopRequest

STAGES = ("prepare", "train", "evaluate", "tune")
WANTED: dict[str, frozenset[str]] = {
    "prepare": frozenset({"prepare"}),
    "train": frozenset({"prepare", "train"}),
    "evaluate": frozenset({"prepare", "train", "evaluate"}),
    "tune": frozenset({"prepare", "tune"}),
    "all": frozenset(STAGES),
}
"""What the user may ask for, and the stages that it takes."""
EPOCHS_RAISED = "EpochsRaised"
"""The event after which a run trains on to a larger number of epochs."""
SYNTHETIC_SUFFIX = "-synthetic"
SYNTHETIC_MARK = "# train --feed synthetic: one batch from memory, over and over; measures speed, its accuracy means nothing\n"
Watch = Callable[[Path], AbstractContextManager[None]]
"""Shows the events of a folder while the context lasts."""


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for on the command line."""

    job: LoadedJob
    root: Root
    until: str
    """What to do, one of `WANTED`."""
    in_process: bool
    command: str
    watch: Watch
    announce: Callable[[str], None]
    name: str = ""
    """The run's name where it is given; made from the job and its images where it is empty."""
    synthetic: bool = False
    """Train on one batch from memory, to measure speed."""


@dataclass(frozen=True)
class RunOutcome:
    """What came of it."""

    folder: RunFolder
    report: RunReport
    reused: bool
    """Everything had been done before."""


def run_name(job: JobSpec, fingerprint: str) -> str:
    """The same job on the same images is the same run, whenever and wherever it is started."""
    identity = json.dumps([resolved(job), fingerprint], sort_keys=True)
    return f"{job.name}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"


def plan_job(
    job: LoadedJob, root: Root, shape: ClusterShape, name: str = "", *, synthetic: bool = False, examine: bool = False
) -> tuple[Plan, RunFolder, FoundImages]:
    """Everything that is decided before the start, without doing it; with `examine` the network is counted too, which loads torch.

    Raises:
        JobError: The source cannot be used, or the job cannot run on this cluster, or `name` names another run.
    """
    check_packages(job)
    found = find_images(job.job.data, root.data)
    facts = current_facts(root, found)
    plan = make_plan(job.job, facts, shape, str(job.path))
    folder = root.run(name or run_name(job.job, found.fingerprint) + (SYNTHETIC_SUFFIX if synthetic else ""))
    check_same_work(folder, job.job, found.fingerprint)
    if examine:
        plan = make_plan(job.job, facts, shape, str(job.path), network_facts(job, len(plan.classes), folder))
    return (as_synthetic(plan) if synthetic else plan), folder, found


def check_same_work(folder: RunFolder, job: JobSpec, fingerprint: str) -> None:
    """Raises:
    JobError: The folder holds the run of another job, or of other images.
    """
    if folder.resolved_job.is_file() and (before := load_job(folder.resolved_job).job) != job:
        if before == with_epochs(job, before.train.epochs):
            what = f"is the run of this job for {before.train.epochs} epochs, not {job.train.epochs}"
            more = f" --epochs {job.train.epochs}" if job.train.epochs > before.train.epochs else ""
            raise JobError((Problem(folder.name, what),), f"orchestrator resume {folder.name}{more}")
        raise JobError((Problem(folder.name, f"is a run of another job: {folder.resolved_job}"),), "choose another --name")
    if folder.plan.is_file() and read_json(folder.plan)["fingerprint"] != fingerprint:
        what = f"the images in {job.data.source}, or how this version prepares them, have changed since {folder.name} was started"
        raise JobError((Problem(folder.name, what),), f"start a new run with: orchestrator run {folder.job}")


def with_epochs(job: JobSpec, epochs: int) -> JobSpec:
    """The same job with another number of epochs."""
    return job.model_copy(update={"train": job.train.model_copy(update={"epochs": epochs})})


def current_facts(root: Root, found: FoundImages) -> DataFacts:
    """The images as prepared, or as listed while they are not prepared."""
    folder = root.data / found.fingerprint
    if not is_prepared(folder):
        return found.facts
    return DataFacts(found.fingerprint, found.listing.classes, readable_images(read_manifest(folder)))


def readable_images(manifest: Manifest) -> dict[str, int]:
    return {name: rows for name, rows in manifest.splits.items() if rows}


def run_job(request: RunRequest) -> RunOutcome:
    """Do what is missing of a run, up to `request.until`.

    Raises:
        OrchestratorError: Written into the run folder as well, with the report of what was done.
    """
    check_tuning(request)
    with reached_cluster(request.root, request.job.job.data.source, in_process=request.in_process) as reached:
        plan, folder, found = plan_job(request.job, request.root, reached.shape, request.name, synthetic=request.synthetic)
        if finished_stages(folder) >= WANTED[request.until] and is_prepared(request.root.data / found.fingerprint):
            return RunOutcome(folder, fold(folder), reused=True)
        with starting_engine(plan.cluster, in_process=request.in_process) as engine:
            model = network_facts(request.job, len(plan.classes), folder) if WANTED[request.until] & {"train", "tune"} else None
            with locked(folder.path):
                write_request(request, folder)
                stop = StopRequest(folder.stop_request)
                stop.forget()
                with (
                    stopping_on_signals(stop, request.announce),
                    request.watch(folder.events),
                    recorded(folder, request, reached.dashboard),
                ):
                    do_stages(request, folder, plan, found, model, stop, engine())
        return RunOutcome(folder, fold(folder), reused=False)


def everything(job: JobSpec) -> str:
    """What `run` does: all stages that the job asks for."""
    return "all" if job.tune else "evaluate"


def asked_before(folder: RunFolder, job: JobSpec) -> str:
    """What a run that is resumed was started for."""
    if is_synthetic(folder):
        return "train"
    asked = [event.get("until") for event in read_events(folder.events) if event["event"] in ("RunStarted", "RunContinued")]
    return "tune" if asked[-1:] == ["tune"] else everything(job)


def check_tuning(request: RunRequest) -> None:
    """Raises:
    JobError: Tuning is asked for where it cannot be done.
    """
    if "tune" not in WANTED[request.until]:
        return
    where, job = str(request.job.path), request.job.job
    if job.tune is None:
        raise JobError((Problem(where, "the job has no section tune"),), "add tune: {space: {train.lr: {loguniform: [0.01, 1.0]}}}")
    if request.in_process:
        raise JobError((Problem("--in-process", "trials are driven by Ray Tune, which needs Ray"),), "leave --in-process out")
    if job.tune.search == "optuna" and find_spec("optuna") is None:
        what = "tune.search=optuna needs the package optuna, which is not installed"
        raise JobError((Problem(where, what),), "pip install optuna, or use tune.search=random")


def is_synthetic(folder: RunFolder) -> bool:
    """Whether a run was started to measure speed on one batch from memory."""
    return any(event.get("feed") == SYNTHETIC for event in read_events(folder.events) if event["event"] == "RunStarted")


def finished_stages(folder: RunFolder) -> set[str]:
    """The stages whose results are complete and on disk; with more epochs to train, what was trained before is not."""
    finished: set[str] = set()
    for event in read_events(folder.events):
        if event["event"] == "StageFinished":
            finished.add(str(event["stage"]))
        elif event["event"] == EPOCHS_RAISED:
            finished -= {"train", "evaluate"}
    results = {"train": folder.weights, "evaluate": folder.metrics, "tune": folder.tuned_job}
    if is_synthetic(folder):
        del results["train"]  # it leaves no model
    return {stage for stage in finished if stage not in results or results[stage].is_file()}


def write_request(request: RunRequest, folder: RunFolder) -> None:
    """What the user wrote, and what it means; a continued run keeps what it was started with."""
    if folder.job.is_file() and folder.resolved_job.is_file():
        return
    mark = SYNTHETIC_MARK if request.synthetic else ""
    write_atomically(folder.job, (mark + request.job.text).encode())
    write_atomically(folder.resolved_job, (mark + dump_yaml(resolved(request.job.job))).encode())


def run_tuned(request: RunRequest, folder: RunFolder) -> RunOutcome:
    """Train and evaluate the job that the study of a run has written, as a run of its own."""
    return run_job(replace(request, job=load_job(folder.tuned_job), until="evaluate", name=""))


@contextmanager
def recorded(folder: RunFolder, request: RunRequest, dashboard: str) -> Iterator[None]:
    """Write down how the run began and how it ended, whichever way it ended."""
    journal = Journal(folder.events, "run", "run")
    event = "RunContinued" if journal.path.exists() else "RunStarted"
    journal.record(
        event,
        run=folder.name,
        job=request.job.job.name,
        version=__version__,
        command=request.command,
        until=request.until,
        feed=SYNTHETIC if request.synthetic else "prepared",
        ray_dashboard=dashboard,
    )
    started = time.perf_counter()
    try:
        yield
    except Interrupted:
        journal.record("RunInterrupted")
        write_report(folder)
        raise
    except Exception as error:
        _record_failure(folder, journal, error)
        raise
    journal.record("RunFinished", seconds=round(time.perf_counter() - started, 1))
    write_report(folder)


def _record_failure(folder: RunFolder, journal: Journal, error: Exception) -> None:
    message = error.message if isinstance(error, OrchestratorError) else f"{type(error).__name__}: {error}"
    next_step = error.next_step if isinstance(error, OrchestratorError) else "report this with the run folder"
    try:
        journal.record("RunFailed", error=message, next_step=next_step)
        write_report(folder)
    except StorageError as second:
        error.add_note(f"the failure could not be written down: {second.message}")


def do_stages(
    request: RunRequest,
    folder: RunFolder,
    plan: Plan,
    found: FoundImages,
    model: ModelFacts | None,
    stop: StopRequest,
    engine: Engine,
) -> None:
    """The stages in their order; each begins where an earlier start of the run left it."""
    from orchestrator.stages.evaluate import evaluate_model
    from orchestrator.stages.health import show_health
    from orchestrator.stages.prepare import PrepareRequest, check_rejects, prepare_data
    from orchestrator.stages.preview import show_preview
    from orchestrator.stages.probe import recall_micro_batch
    from orchestrator.stages.train import train_model

    job, data = request.job.job, request.root.data / found.fingerprint
    with stage(folder, "prepare", stop) as journal:
        remember_splits(found.splits, found.table, found.before)
        prepare = PrepareRequest(job.data, data, found.fingerprint, found.recipe, found.listing, found.table, plan.prepare)
        with nullcontext() if is_prepared(data) else locked(data):
            manifest = prepare_data(prepare, engine, journal, stop)
        check_rejects(manifest, job.data, data)
        show_health(folder, data, manifest, journal)
    facts = DataFacts(found.fingerprint, manifest.classes, readable_images(manifest))
    plan = recall_micro_batch(job, make_plan(job, facts, plan.cluster, str(request.job.path), model), folder)
    plan = as_synthetic(plan) if request.synthetic else plan
    write_json(folder.plan, plan.to_json())
    missing = WANTED[request.until] - finished_stages(folder)
    if "train" in missing:
        with stage(folder, "train", stop) as journal:
            if not request.synthetic:  # which reads no more than its one batch
                show_preview(folder, job, manifest, data)
            train_model(job, plan, manifest, data, folder, engine, journal, stop)
    if missing & {"train", "evaluate"} and "evaluate" in WANTED[request.until]:
        with stage(folder, "evaluate", stop) as journal:
            evaluate_model(job, plan, manifest, data, folder, engine, journal, stop)
    if "tune" in missing:
        from orchestrator.stages.trial import StudyWork
        from orchestrator.stages.tune import tune_model

        with stage(folder, "tune", stop) as journal:
            work = StudyWork(job, plan, manifest, data, folder, __version__)
            best = tune_model(work, engine, journal, stop)
            write_atomically(folder.tuned_job, dump_yaml(tuned_job(job, best.parameters)).encode())
        for trial in folder.trials.iterdir():
            write_report(RunFolder(trial))


@contextmanager
def stage(folder: RunFolder, name: str, stop: StopRequest) -> Iterator[Journal]:
    """The events around a stage."""
    if stop.asked:
        raise Interrupted(f"stopped before the stage {name}", f"orchestrator resume {folder.name}")
    journal = Journal(folder.events, f"{name}-driver", name)
    journal.record("StageStarted")
    started = time.perf_counter()
    yield journal
    journal.record("StageFinished", seconds=round(time.perf_counter() - started, 1))
