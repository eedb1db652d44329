"""The recipe in a job file: what keys mean when they are left out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import JobError
from orchestrator.spec.job import resolved
from orchestrator.spec.load import load_job
from orchestrator.spec.train import TrainSpec
from orchestrator.spec.yaml import dump_yaml

JOB = "name: pets\ndata: {source: images}\n"


def load(place: Path, train: str, *overrides: str) -> TrainSpec:
    path = place / "job.yaml"
    path.write_text(f"{JOB}train: {train}\n")
    return load_job(path, overrides).job.train


def test_defaults_follow_optimiser_and_schedule(tmp_path: Path) -> None:
    """AdamW does not train at SGD's rate, nor one-cycle with a tenth of warm-up; what is written wins."""
    plain, adamw = load(tmp_path, "{epochs: 3}"), load(tmp_path, "{optimizer: adamw}")
    assert (plain.lr, plain.weight_decay, plain.warmup) == (0.1, 5e-4, 0.1)
    assert (adamw.lr, adamw.weight_decay, adamw.warmup) == (1e-3, 0.05, 0.1)
    assert load(tmp_path, "{optimizer: adamw, lr: 0.01}").lr == 0.01
    assert load(tmp_path, "{epochs: 3}", "train.schedule=one_cycle").warmup == 0.3


def test_the_whole_recipe_survives_being_resolved(tmp_path: Path) -> None:
    """Every key of the recipe, written out and read back; a class may be called like a number."""
    recipe = (
        "{batch: auto, micro_batch: 16, optimizer: adamw, schedule: step, drops: [0.3, 0.6], clip_norm: 1, mixup: 0.2, cutmix: 1.0, "
        "class_weights: {cat: 2.0, '7': 0.5}, ema: 0.999, precision: bf16, channels_last: true, compile: true}"
    )
    train = load(tmp_path, recipe)
    assert train.class_weights == {"cat": 2.0, "7": 0.5}
    assert (train.drops, train.channels_last, train.batch) == ((0.3, 0.6), True, "auto")
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_yaml(resolved(load_job(tmp_path / "job.yaml").job)))
    assert load_job(path).job.train == train


@pytest.mark.parametrize(
    ("train", "found"),
    [
        ("{schedule: cosin}", 'did you mean "cosine"'),
        ("{schedule: warmup_stable_decay, warmup: 0.5, cooldown: 0.6}", "their sum is at most 1"),
        ("{micro_batch: 0}", "train.micro_batch: must be at least 1, not 0"),
        ("{micro_batch: all}", "train.micro_batch: must be a whole number or auto"),
        ("{class_weights: even}", "train.class_weights: must be none or balanced or a section with keys"),
        ("{class_weights: {cat: -1}}", "train.class_weights: must be at least 0, not -1"),
        ("{class_weights: {cat: much}}", 'train.class_weights: must be a number, not "much"'),
        ("{class_weights: {cat: .inf}}", "train.class_weights: must be a finite number, not inf"),
        ("{ema: 1.0}", "train.ema: must be less than 1"),
        ("{drops: 0.5}", "train.drops: must be a list"),
        ("{precision: half}", "train.precision: must be auto, fp32, bf16 or fp16"),
        ("{channels_last: 1}", "train.channels_last: must be true or false or auto, not 1"),
        ("{compile: yes}", "train.compile: must be true or false"),
        ("{mixup: -0.1}", "train.mixup: must be at least 0"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, train: str, found: str) -> None:
    """With the key and what it may be."""
    with pytest.raises(JobError) as raised:
        load(tmp_path, train)
    assert found in str(raised.value)
