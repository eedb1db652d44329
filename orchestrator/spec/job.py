"""The job file as frozen values: what the user asked for, every default filled in."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from orchestrator.spec.augment import AugmentStep
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.section import AUTO, Channels, Count, Fraction, Section
from orchestrator.spec.train import TrainSpec


class SplitSpec(Section):
    """How images are divided where the source does not say."""

    validation: Fraction = Field(
        0.1, description="Share of the images that the choice of the best epoch may see. Ignored where the source names validation images."
    )
    test: Fraction = Field(
        0.1, description="Share of the images kept for the final evaluation. Ignored where the source names test images."
    )
    seed: int = Field(0, ge=0, description="Another seed divides the images differently.")

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation:g} and test {self.test:g} leave nothing to train on; their sum must be below 1")
        return self


class ImageSpec(Section):
    """What a prepared image looks like."""

    size: int = Field(224, ge=8, le=1024, description="Side of the square image that the model sees, in pixels.")
    channels: Channels = Field(3, description="3 keeps colour (RGB), 1 converts to grey.")
    fit: Literal["crop", "pad", "squash"] = Field(
        "crop",
        description="crop: short side to size, then centre crop; pad: long side to size, then black borders; squash: both sides to size.",
    )
    store: Literal["original", "jpeg", "png", "raw"] = Field(
        "jpeg",
        description="What the shards hold: original keeps each file as it is, to be decoded and resized in every epoch; jpeg is small, png "
        "is lossless, raw is the fastest to read and the largest.",
    )
    store_size: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="Side of the stored square picture where it is larger than size: random_resized_crop, as the first of augment, cuts "
        "from it. Jobs that differ in size alone share what is stored. Originals are kept as they are.",
    )
    jpeg_quality: int = Field(95, ge=50, le=100, description="Quality of stored JPEGs; only used with store: jpeg.")

    @model_validator(mode="after")
    def _stores_no_smaller_than_seen(self) -> Self:
        if self.store_size is not None and self.store == "original":
            raise ValueError("store_size is for jpeg, png and raw; originals are kept as they are")
        if self.store_size is not None and self.store_size < self.size:
            raise ValueError(f"store_size {self.store_size} is smaller than size {self.size}; leave it out to store what the model sees")
        return self

    @property
    def side(self) -> int:
        """Of what is stored, in pixels; of originals, of what the statistics are taken from."""
        return self.store_size or self.size


class DataSpec(Section):
    """Where the images are and how they are prepared."""

    source: str = Field(
        min_length=1,
        description="A folder with one folder of images per class, or with such folders under train/, validation/ and test/; a manifest "
        "(.csv, .tsv, .jsonl or .parquet with columns uri, label and where wanted split, id, group); .parquet files with columns image "
        "and label; .tar files of a WebDataset. A path, a pattern such as train-{000..127}.tar, or an address such as s3://bucket/images.",
    )
    split: SplitSpec = Field(default_factory=SplitSpec, description="How the images are divided.")
    image: ImageSpec = Field(default_factory=ImageSpec, description="What a prepared image looks like.")
    max_bad_fraction: Fraction = Field(0.01, description="The run stops before training when a larger share of the images cannot be read.")
    max_pixels: int = Field(64_000_000, ge=1, description="Images whose header announces more pixels are rejected without being decoded.")
    min_side: int = Field(2, ge=1, description="Images with a shorter side, in pixels, are rejected.")
    max_aspect: int = Field(100, ge=1, description="Images whose longer side is more than so many times the shorter one are rejected.")
    decode_s: int = Field(20, ge=1, description="Images that take more seconds of computing to decode are rejected.")
    shard_rows: Count | Literal["auto"] = Field(AUTO, description="Images in one shard file; auto aims at 64 MiB of pixels.")


class EvaluateSpec(Section):
    """How the model is evaluated."""

    batch: int = Field(256, ge=1, description="Images in one forward pass of one worker.")
    mistakes: int = Field(48, ge=0, le=500, description="How many of the worst mistakes the report shows as pictures.")


class DomainSpec(Section):
    """The values a parameter may take; exactly one of the keys is given."""

    choice: tuple[Any, ...] | None = Field(None, strict=False, description="One of these values.")
    uniform: tuple[float, float] | None = Field(None, strict=False, description="A number between two bounds.")
    loguniform: tuple[float, float] | None = Field(None, strict=False, description="A number between two bounds above 0, by its magnitude.")
    randint: tuple[int, int] | None = Field(None, strict=False, description="A whole number from the first bound to the second, inclusive.")

    @model_validator(mode="before")
    @classmethod
    def _is_one_domain(cls, value: Any) -> Any:
        names = tuple(cls.model_fields)
        if not (isinstance(value, dict) and len(value) == 1 and set(value) <= set(names)):
            raise ValueError(f"must be one of {', '.join(names)}, such as {{loguniform: [0.01, 1.0]}}")
        ((name, bounds),) = value.items()
        if name == "choice":
            if not isinstance(bounds, list | tuple) or not bounds:
                raise ValueError("choice takes a list of values, such as {choice: [64, 128]}")
            return value
        kinds = int if name == "randint" else int | float
        is_pair = isinstance(bounds, list | tuple) and len(bounds) == 2  # noqa: PLR2004 -- two bounds
        if not is_pair or any(isinstance(bound, bool) or not isinstance(bound, kinds) for bound in bounds) or bounds[0] >= bounds[1]:
            raise ValueError(f"{name} takes two {'whole ' if name == 'randint' else ''}numbers, the smaller one first")
        if name == "loguniform" and bounds[0] <= 0:
            raise ValueError("the bounds of loguniform are above 0")
        return value if name == "randint" else {name: tuple(float(bound) for bound in bounds)}

    @property
    def edges(self) -> tuple[Any, ...]:
        """Values that stand for all the others: every choice, or both bounds."""
        return next(values for values in (self.choice, self.uniform, self.loguniform, self.randint) if values is not None)


class TuneSpec(Section):
    """How parameters are adjusted from the evaluation on the validation images."""

    space: dict[str, DomainSpec] = Field(description="Dotted keys of this file, each with the values it may take.")
    trials: int = Field(16, ge=2, description="Trainings in all; the first one takes the job's own parameters.")
    search: Literal["random", "grid", "optuna"] = Field(
        "random", description="random: independent draws; grid: every combination of choices; optuna: draws that learn from results (TPE)."
    )
    scheduler: Literal["asha", "none"] = Field("asha", description="asha: weak trials are cut short; none: every trial trains to its end.")
    grace_epochs: int = Field(1, ge=1, description="Epochs that asha gives every trial.")
    metric: Literal["accuracy", "loss"] = Field(
        "accuracy", description="What counts, on the validation images: the highest accuracy, or the lowest loss."
    )
    seed: int = Field(0, ge=0, description="Another seed draws other parameters.")

    @field_validator("space")
    @classmethod
    def _names_a_parameter(cls, space: dict[str, DomainSpec]) -> dict[str, DomainSpec]:
        if not space:
            raise ValueError("is empty; name at least one parameter, such as train.lr: {loguniform: [0.01, 1.0]}")
        return space


class JobSpec(Section):
    """A job: from a folder of images to an evaluated model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the job, the first part of the names of its runs.")
    data: DataSpec = Field(description="Where the images are and how they are prepared.")
    augment: tuple[AugmentStep, ...] = Field((), strict=False, description="Random changes to the training images, in this order.")
    model: ModelSpec = Field(default_factory=ModelSpec, description="Which network is trained.")
    train: TrainSpec = Field(default_factory=TrainSpec, description="How the network is trained.")
    evaluate: EvaluateSpec = Field(default_factory=EvaluateSpec, description="How the model is evaluated.")
    tune: TuneSpec | None = Field(None, description="Which parameters are adjusted; nothing is tuned when left out.")

    @property
    def may_compile(self) -> bool:
        """Whether training compiles, or runs code of others that may."""
        return self.train.compile or self.model.is_foreign


def resolved(job: JobSpec) -> dict[str, Any]:
    """The whole job with every default as plain data, for `job.resolved.yaml` and for hashing."""
    return job.model_dump(mode="json", exclude_none=True)
