"""The names of everything inside a run folder and inside the root that holds runs and prepared data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import RunNotFound


def numbered(folder: Path, name: str) -> Path:
    """A place that nothing of an earlier start stands at: the next of `name-1`, `name-2`, ..."""
    return folder / f"{name}-{sum(1 for _ in folder.glob(f'{name}-*')) + 1}"


@dataclass(frozen=True)
class Root:
    """The folder that holds `runs/` and `data/`."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def data(self) -> Path:
        return self.path / "data"

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.runs / name)

    def find_run(self, name: str) -> RunFolder:
        """The existing run called `name`, which may also be the path of a run folder.

        Raises:
            RunNotFound: There is none.
        """
        for candidate in (self.runs / name, Path(name)):
            if (candidate / "job.yaml").is_file():
                return RunFolder(candidate.resolve())
        known = sorted((job.parent.name for job in self.runs.glob("*/job.yaml")), reverse=True)
        hint = f"runs here: {', '.join(known[:5])}" if known else f"no runs in {self.runs}; start one with: orchestrator run JOB"
        raise RunNotFound(f"no run named {name} in {self.runs}", hint)


@dataclass(frozen=True)
class RunFolder:
    """One run. This class alone knows the names of its files."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def job(self) -> Path:
        """What the user wrote, as it stood when the run started."""
        return self.path / "job.yaml"

    @property
    def resolved_job(self) -> Path:
        return self.path / "job.resolved.yaml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def health(self) -> Path:
        """What was found about the images, with the pictures of doubtful pairs."""
        return self.path / "health.json"

    @property
    def preview(self) -> Path:
        """A few training images as they are evaluated and as the first epochs are given them."""
        return self.path / "preview.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def attempts(self) -> Path:
        """What Ray Train stores about each start of a worker group."""
        return self.path / "attempts"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def metrics(self) -> Path:
        return self.evaluation / "metrics.json"

    @property
    def predictions(self) -> Path:
        return self.evaluation / "predictions.parquet"

    @property
    def mistakes(self) -> Path:
        """The worst mistakes with their pictures: id, path, label, predicted, probability, png."""
        return self.evaluation / "mistakes.parquet"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def weights(self) -> Path:
        return self.model / "weights.safetensors"

    @property
    def report_json(self) -> Path:
        return self.path / "report.json"

    @property
    def report_html(self) -> Path:
        return self.path / "report.html"

    @property
    def trials(self) -> Path:
        """The trials of a study, each a run folder of its own."""
        return self.path / "trials"

    def trial(self, number: int) -> RunFolder:
        return RunFolder(self.trials / f"{number:03}")

    @property
    def worked_on_as(self) -> Path:
        """The folder that is locked while somebody works on this run: of a trial that of the study around it."""
        return self.path.parent.parent if self.path.parent.name == "trials" else self.path

    @property
    def tuned_job(self) -> Path:
        """The job with the parameters of the best trial; written when the study is finished."""
        return self.path / "tuned.yaml"

    @property
    def stop_request(self) -> Path:
        """Exists while somebody has asked the workers to save a checkpoint and stop."""
        return self.path / "stop"

    @property
    def regroup_request(self) -> Path:
        """Exists while the workers are asked to save a checkpoint and to be started again in another number."""
        return self.path / "regroup"
