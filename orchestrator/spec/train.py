"""The section `train` of a job file: the recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from orchestrator.spec.section import AUTO, Count, CountRange, Fraction, Section

Share = Annotated[float, Field(ge=0.0, le=1.0)]
ClassWeight = Annotated[float, Field(ge=0.0)]

LEFT_OUT: dict[tuple[str, str], dict[str, float]] = {
    ("optimizer", "adamw"): {"lr": 1e-3, "weight_decay": 0.05},
    ("schedule", "one_cycle"): {"warmup": 0.3},
}
"""What keys that are left out mean beside another key's value."""


class TrainSpec(Section):
    """How the network is trained."""

    epochs: int = Field(10, ge=1, description="Passes over the training images.")
    batch: Count | Literal["auto"] = Field(
        256,
        description="Images in one optimiser step, over all workers together. auto: 256, or fewer where there are few training images, in "
        "micro-batches that fit the memory (as with micro_batch: auto).",
    )
    micro_batch: Count | Literal["auto"] | None = Field(
        None,
        description="Images in one forward pass of one worker; as many of them as make up `batch` add their gradients before a step. auto: "
        "as many images as memory takes, tried out before training starts. Left out: the batch in equal parts, one for each worker.",
    )
    lr: float = Field(0.1, gt=0.0, description="Peak learning rate for the global batch. 0.001 where it is left out with optimizer: adamw.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd: Nesterov momentum; adamw: Adam with decoupled weight decay.")
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Momentum of sgd.")
    weight_decay: float = Field(
        5e-4, ge=0.0, description="Weight decay; not applied to biases and normalisation. 0.05 where it is left out with optimizer: adamw."
    )
    schedule: Literal["cosine", "step", "one_cycle", "warmup_stable_decay", "constant"] = Field(
        "cosine",
        description="Course of the learning rate after the warm-up. cosine: half a cosine to 0; step: down by `drop_factor` at each of "
        "`drops`; one_cycle: along cosines from 1/25 of the peak to the peak and down to almost 0; warmup_stable_decay: the peak, then "
        "straight to 0 in the last share `cooldown`.",
    )
    warmup: Fraction = Field(
        0.1,
        description="Share of all steps in which the learning rate rises to its peak. 0.3 where it is left out with schedule: one_cycle.",
    )
    drops: tuple[Fraction, ...] = Field(
        (0.5, 0.75), strict=False, description="With schedule: step, the shares of all steps after which the learning rate drops."
    )
    drop_factor: float = Field(0.1, gt=0.0, lt=1.0, description="With schedule: step, what each drop multiplies the learning rate by.")
    cooldown: Share = Field(0.2, description="With schedule: warmup_stable_decay, the share of all steps in which the rate falls to 0.")
    layer_decay: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Layer by layer from the last one down, the learning rate is multiplied by this; 1 gives all layers the same. About "
        "0.75 suits weights that were trained before.",
    )
    clip_norm: float = Field(0.0, ge=0.0, description="A gradient with a larger norm, over all weights, is scaled down to it; 0: never.")
    label_smoothing: Fraction = Field(0.0, description="Share of the target probability spread over all classes.")
    mixup: float = Field(
        0.0, ge=0.0, description="Alpha of MixUp: pairs of images and labels are blended, by shares drawn from Beta(alpha, alpha). 0: off."
    )
    cutmix: float = Field(
        0.0,
        ge=0.0,
        description="Alpha of CutMix: a rectangle of one image is put into another, its area drawn from Beta(alpha, alpha). 0: off. Beside "
        "mixup, each micro-batch takes one of the two.",
    )
    mix_share: Share = Field(1.0, description="Share of the micro-batches to which mixup or cutmix is applied.")
    class_weights: Literal["none", "balanced"] | dict[str, ClassWeight] = Field(
        "none",
        description="How much an image counts in the loss, by its class. balanced: inversely to the number of training images of its "
        "class, 1 on average; or weights by the names of classes, 1 for those not named.",
    )
    ema: Fraction = Field(
        0.0,
        description="Decay of a running average of the weights, which is validated and becomes the model; 0.999 averages about the last "
        "thousand steps. 0: off.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Numbers that forward passes compute with; weights stay fp32. bf16 and fp16: autocast, fp16 with a scaled loss; auto: "
        "on GPUs bf16 where they have it and fp16 where not, on CPUs bf16 where they multiply matrices of it (AMX) and fp32 where not.",
    )
    channels_last: bool | Literal["auto"] = Field(
        AUTO,
        description="Keep the channels of a pixel side by side in memory, which makes convolutions faster; auto: for every network but a "
        "function of yours (model.entry), which may call view on what is not contiguous then.",
    )
    compile: bool = Field(False, description="Use torch.compile: about a minute at the start, and faster steps where it pays.")
    select: Literal["best", "last"] = Field(
        "best", description="Which epoch becomes the model: the one with the best validation accuracy, or the last."
    )
    workers: Count | CountRange | Literal["auto"] = Field(
        AUTO,
        description="Training processes; auto takes one per GPU, or up to two on CPUs. A range, as [1, 4], takes one per GPU, or one per "
        "node where there are no GPUs, as many as there are now: fewer when nodes are lost, more when nodes come. The images of each step "
        "stay the same.",
    )
    grow_after_s: float = Field(
        60.0, ge=0.0, description="With a range of workers, seconds that a cluster must have stayed as it is before more are started."
    )
    wait_for_nodes_s: float = Field(
        600.0, ge=0.0, description="With a range of workers, seconds to wait for nodes when fewer are left than the least number takes."
    )
    shuffle_window: int = Field(4, ge=1, description="Shards whose images are mixed with one another.")
    checkpoint_s: float = Field(60.0, gt=0.0, description="Seconds between checkpoints inside an epoch; every epoch ends with one as well.")
    on_nonfinite: Literal["stop", "skip"] = Field(
        "stop",
        description="What to do when the loss of a step is NaN or infinite on any worker. stop: end training, the last checkpoint is from "
        "before; skip: look at loss and gradients before every step, and leave out such a step on all workers, in weights, optimizer and "
        "averages, while schedule and images go on; more than ten in a row stop.",
    )
    hang_s: float = Field(
        60.0,
        gt=0.0,
        description="Seconds without a sign of life, or in one step (ten times the usual one if that is longer), after which a worker "
        "counts as hung: its stack is saved, and the group starts again from the newest checkpoint. Ten times as long for what has no "
        "usual time: the start, waiting for images, validation, checkpoints.",
    )
    seed: int = Field(0, ge=0, description="Seed of the weights, the order of the images, the augmentation, mixing and dropout.")

    @model_validator(mode="wrap")
    @classmethod
    def _fill_in(cls, value: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        """What is filled in still counts as left out: a trial with another optimizer has that one's values."""
        if not isinstance(value, dict):
            return build(value)
        filled: dict[str, Any] = {}
        for (key, word), defaults in LEFT_OUT.items():
            if value.get(key) == word:
                filled |= defaults
        spec = build(filled | value)
        spec.model_fields_set.difference_update(filled.keys() - value.keys())
        return spec

    @model_validator(mode="after")
    def _fits_the_steps(self) -> Self:
        if self.schedule == "warmup_stable_decay" and self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup {self.warmup:g} and cooldown {self.cooldown:g} are more than all steps; their sum is at most 1")
        return self

    @property
    def mixes(self) -> bool:
        """Whether images are combined with others of their micro-batch."""
        return bool(self.mixup or self.cutmix)
