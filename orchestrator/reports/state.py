"""How runs stand now: what their records say, and whether anybody works on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.lock import Holder, holder
from orchestrator.reports.fold import fold
from orchestrator.reports.values import RunReport


@dataclass(frozen=True)
class RunState:
    """A run, and who works on it."""

    report: RunReport
    holder: Holder | None

    @property
    def status(self) -> str:
        """As in the report, or `lost`: the record says running, and nobody works on it."""
        return "lost" if self.report.status == "running" and self.holder is None else self.report.status

    @property
    def stage(self) -> str:
        """The stage that was begun last; empty before the first."""
        begun = [stage.name for stage in self.report.stages if stage.state != "waiting"]
        return begun[-1] if begun else ""


def look(folder: RunFolder) -> RunState:
    """How a run stands now."""
    found = holder(folder.worked_on_as)
    return RunState(fold(folder), found)


def look_at_all(root: Root) -> list[RunState]:
    """Every run of a root, the newest first."""
    states = [look(RunFolder(job.parent)) for job in root.runs.glob("*/job.yaml")]
    return sorted(states, key=lambda state: state.report.started or 0.0, reverse=True)


def state_json(state: RunState) -> dict[str, Any]:
    """One run in a list of runs, for other programs."""
    report = state.report
    return {
        "run": report.run,
        "job": report.job,
        "status": state.status,
        "stage": state.stage,
        "started": report.started,
        "seconds": round(report.seconds, 1),
        "split": report.metrics.split if report.metrics else None,
        "accuracy": report.metrics.accuracy if report.metrics else None,
        "best_validation_accuracy": report.training.best_validation_accuracy,
        "pid": state.holder.pid if state.holder else None,
        "host": state.holder.host if state.holder else None,
    }
