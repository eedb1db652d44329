"""A run as values: what `fold` makes of a run folder and every report is written from.

What has not happened yet, or was not measured, is `None` or empty, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RunStatus = Literal["running", "done", "failed", "interrupted"]
StageState = Literal["waiting", "running", "done", "skipped", "failed", "interrupted"]


@dataclass(frozen=True)
class StageReport:
    """How a stage stands, over all starts of the run."""

    name: str
    state: StageState
    seconds: float
    """Time spent in it, summed over all starts of the run."""
    reason: str = ""
    """Why it was skipped; empty when it was not."""


@dataclass(frozen=True)
class Failure:
    """Why the run failed the last time."""

    message: str
    next_step: str


@dataclass(frozen=True)
class DataReport:
    """The images as prepared, or as far as prepare has come."""

    fingerprint: str
    """Empty while prepare has not committed them."""
    rows: int
    rejects: int
    reject_reasons: dict[str, int]
    """Rejected images by reason; empty where the journal holds only their number."""
    splits: dict[str, int]
    skipped: dict[str, int]
    """Entries of the source that are no images, by the rule that left them out."""
    seconds: float | None
    images_per_s: float | None
    reused: bool
    """Every start of this run found them prepared."""
    units_done: int | None
    units: int | None


@dataclass(frozen=True)
class Doubtful:
    """How many pairs of images are, or look, the same."""

    pairs: int
    leaks: int
    """In different splits."""
    label_conflicts: int
    """In different classes."""


@dataclass(frozen=True)
class PairImage:
    """One image of a doubtful pair."""

    path: str
    split: str
    name: str
    """Its class."""
    png: str
    """Base64; empty when there is no picture."""


@dataclass(frozen=True)
class ImagePair:
    """Two images that are, or look, the same."""

    kind: str
    """`same file` or `look alike`."""
    fault: str
    """leak, label, `leak and label`; empty for mere duplicates."""
    first: PairImage
    second: PairImage


@dataclass(frozen=True)
class HealthReport:
    """What was found about the images besides their number."""

    classes: dict[str, dict[str, int]]
    """Images of each class in each split."""
    short_side: tuple[float, ...]
    """Pixels of the source images: smallest, 5 %, median, 95 %, largest."""
    aspect: tuple[float, ...]
    kinds: dict[str, int]
    """Images by format, mode and depth."""
    misnamed: int
    """Images whose extension names another format."""
    same_file: Doubtful
    look_alike: Doubtful
    compared: bool
    """Whether the looks of all images were compared."""
    pairs: tuple[ImagePair, ...]
    """The most doubtful ones."""


@dataclass(frozen=True)
class EpochReport:
    """One pass over the training images; times are those of one worker's clock."""

    number: int
    """Counted from 1."""
    train_loss: float | None
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float | None
    images_per_s: float | None
    wait_s: float | None
    transfer_s: float | None
    compute_s: float | None
    sync_s: float | None
    validate_s: float | None
    checkpoint_s: float | None


@dataclass(frozen=True)
class ProgressPoint:
    """Where training stood after a step."""

    global_step: int
    epoch: int
    """Counted from 1."""
    loss: float | None
    lr: float | None
    images_per_s: float | None
    wait_share: float | None
    sync_share: float | None
    eta_s: float | None


@dataclass(frozen=True)
class TrainingReport:
    """Facts about training besides its curves."""

    parameters: int | None = None
    workers: int | None = None
    device: str = ""
    planned_epochs: int | None = None
    total_steps: int | None = None
    attempts: int = 0
    """Starts of a worker group, over all starts of the run."""
    best_epoch: int | None = None
    """Counted from 1."""
    best_validation_accuracy: float | None = None
    checkpoints: int = 0
    weights_verified: int = 0
    """Epochs after which all workers were shown to hold the same weights."""
    skipped_steps: int = 0
    """Left out because their loss or gradients were not finite."""
    hung_workers: int = 0
    rejected_checkpoints: tuple[tuple[str, str], ...] = ()
    """Name and reason of each checkpoint that a resume refused."""


@dataclass(frozen=True)
class ClassReport:
    """How one class was recognised."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class MetricsReport:
    """The evaluation of the model on one split."""

    split: str
    rows: int
    accuracy: float
    top5: float | None
    loss: float | None
    macro_f1: float | None
    balanced_accuracy: float | None
    ece: float | None
    """Expected calibration error."""
    per_class: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Images by true class (row) and predicted class (column)."""


@dataclass(frozen=True)
class DecisionReport:
    """What the plan decided, and why."""

    what: str
    value: str
    reason: str


@dataclass(frozen=True)
class TrialReport:
    """One trial of a study."""

    number: int
    parameters: dict[str, str]
    state: str
    """running, finished, stopped (cut short), failed, or unfinished."""
    epochs: int
    value: float | None
    """The metric of the study on the validation images: the best epoch's, or the last one's while the study runs."""
    seconds: float | None
    error: str


@dataclass(frozen=True)
class StudyReport:
    """The trials, and what the best one changed on images that no trial saw."""

    metric: str
    planned: int
    trials: tuple[TrialReport, ...]
    best: int | None
    """Number of the best trial; absent while the study runs."""
    split: str
    before: float | None
    """Accuracy of the job's own parameters on `split`."""
    after: float | None
    """Accuracy of the best trial on `split`."""
    original_images_read: int | None
    """By all trials together: 0, because they read prepared images."""

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


@dataclass(frozen=True)
class PreviewImage:
    """A training image as it is evaluated, and as each of the first epochs is given it."""

    name: str
    """Of its class."""
    path: str
    pictures: tuple[str, ...]
    """PNG files in base64; empty where there is none."""


@dataclass(frozen=True)
class PreviewReport:
    """What the model saw."""

    headings: tuple[str, ...]
    """Of the pictures of an image, in their order."""
    size: int
    """Side in pixels of what the model is given."""
    shown: int
    """Side in pixels of the pictures."""
    images: tuple[PreviewImage, ...]


@dataclass(frozen=True)
class RunReport:
    """One run, whatever became of it."""

    run: str
    job: str
    synthetic: bool
    """Trained on one batch from memory: the speed is what it tells, the accuracy means nothing."""
    status: RunStatus
    version: str
    command: str
    started: float | None
    """Seconds since 1970 of the first start."""
    seconds: float
    """Time the run was at work, summed over all its starts."""
    starts: int
    stages: tuple[StageReport, ...]
    data: DataReport | None
    health: HealthReport | None
    preview: PreviewReport | None
    training: TrainingReport
    epochs: tuple[EpochReport, ...]
    points: tuple[ProgressPoint, ...]
    metrics: MetricsReport | None
    study: StudyReport | None
    """Only of a run that tunes."""
    classes: tuple[str, ...]
    decisions: tuple[DecisionReport, ...]
    error: Failure | None
    """Only of a run that failed."""
    ray_dashboard: str
    """`HOST:PORT` of the cluster that the last start worked on; empty when it had one of its own."""
    resolved_job: str
    problems: tuple[str, ...]
    """Files of the run folder that could not be read, each in one line."""

    def stage(self, name: str) -> StageReport:
        return next(stage for stage in self.stages if stage.name == name)
