"""Memory decides how a step is divided: found out once, on one worker, and kept for every later start of the run."""

from __future__ import annotations

import math

from orchestrator.durable import write_json
from orchestrator.plan.batch import is_probed, micro_batch_choices, with_micro_batch
from orchestrator.plan.values import Plan
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import Journal, read_events
from orchestrator.spec.job import JobSpec
from orchestrator.stages.engine import Engine
from orchestrator.training.probe import Fit, ProbeWork, probe_micro_batch
from orchestrator.training.work import TrainWork

PROBED = "MicroBatchProbed"


def recall_micro_batch(job: JobSpec, plan: Plan, folder: RunFolder) -> Plan:
    """The plan with what an earlier start found out about the same step in the same parts; as it is where nothing is known."""
    fit = _known(plan, folder) if is_probed(job.train) else None
    return plan if fit is None else with_micro_batch(job, plan, fit.rows, fit.reason)


def fit_micro_batch(plan: Plan, work: TrainWork, folder: RunFolder, engine: Engine, journal: Journal) -> Plan:
    """The plan with micro-batches that fit the memory, in `plan.json` as well; as it is where the job or an earlier start says.

    Raises:
        TrainingError: Not even one image fits.
    """
    if not is_probed(work.job.train):
        return plan
    fit = _known(plan, folder)
    if fit is None:
        sharing = math.ceil(plan.train.workers / plan.cluster.nodes)
        fit = engine.run_alone(probe_micro_batch, ProbeWork(work, micro_batch_choices(work.job.train, plan.train), sharing), plan.train)
        journal.record(PROBED, rows=fit.rows, reason=fit.reason, question=_question(plan))
    fitting = with_micro_batch(work.job, plan, fit.rows, fit.reason)
    write_json(folder.plan, fitting.to_json())
    return fitting


def _known(plan: Plan, folder: RunFolder) -> Fit | None:
    found = [event for event in read_events(folder.events) if event["event"] == PROBED and event["question"] == _question(plan)]
    return Fit(found[-1]["rows"], found[-1]["reason"]) if found else None


def _question(plan: Plan) -> list[int | str]:
    """What an answer holds for: images in a step, parts that the workers may take it in, and device."""
    return [plan.train.micro_batches * plan.train.micro_batch_rows, plan.train.parts, plan.train.device]
