"""Whole runs on GPUs agree with the same runs on a CPU, which are the definition of a correct answer."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from gpus import GPUS, NEED_GPU, hide_gpus
from safetensors.numpy import load_file
from workshop import Workshop, workshop_in

from orchestrator.launch.evaluate import evaluate_run
from orchestrator.record.folder import RunFolder
from orchestrator.record.journal import read_events
from orchestrator.stages.probe import PROBED

pytestmark = [*NEED_GPU, pytest.mark.timeout(600)]
SINGLE = ("train.precision=fp32", "train.micro_batch=8", "train.select=last")
WORKERS = [1] if GPUS < 2 else [1, 2]
LOSS_OFF = 0.03
"""How far the losses of whole epochs may lie apart."""


def named(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder.events) if event["event"] == name]


def losses(folder: RunFolder) -> list[float]:
    """Of each epoch, on the training and on the validation images."""
    return [event[name] for event in named(folder, "EpochFinished") for name in ("train_loss", "validation_loss")]


def weights(folder: RunFolder) -> np.ndarray[Any, Any]:
    return np.concatenate([value.reshape(-1) for _, value in sorted(load_file(folder.weights).items())])


def started(folder: RunFolder) -> dict[str, Any]:
    return named(folder, "TrainingStarted")[0]


def on_cpu(workshop: Workshop, *changes: str, until: str = "train") -> RunFolder:
    """In this process, under another name of the job, with one worker."""
    with pytest.MonkeyPatch.context() as patch:
        hide_gpus(patch)
        return workshop.run(*changes, "name=on-cpu", "train.workers=1", in_process=True, until=until).folder


@pytest.mark.parametrize("workers", WORKERS)
def test_workers_train_as_one_does_on_a_cpu(workshop: Workshop, gpu_cluster: None, workers: int) -> None:
    """nccl: one worker, and where there are two GPUs two, take the same steps; all hold the same weights, close to those of the CPU."""
    folder = workshop.run(*SINGLE, f"train.workers={workers}", in_process=False, until="train").folder
    expected = on_cpu(workshop, *SINGLE)
    assert started(folder)["device"].startswith("cuda")
    assert (started(folder)["workers"], started(expected)["device"]) == (workers, "cpu")
    assert [event["workers"] for event in named(folder, "WeightsVerified")] == [workers] * 2
    assert losses(folder) == pytest.approx(losses(expected), abs=0.01)
    apart = np.linalg.norm(weights(folder) - weights(expected)) / np.linalg.norm(weights(expected))
    assert apart < 0.01


@pytest.fixture(scope="module")
def in_single(tmp_path_factory: pytest.TempPathFactory, gpu_cluster: None) -> tuple[Workshop, RunFolder]:
    """A training in single precision, and where other trainings on the same images may be made."""
    workshop = workshop_in(tmp_path_factory.mktemp("single"))
    return workshop, workshop.run(*SINGLE, in_process=False, until="train").folder


@pytest.mark.parametrize(
    "change", ["train.precision=bf16", "train.precision=fp16", "train.channels_last=false", "train.compile=true", "train.micro_batch=16"]
)
def test_what_makes_it_fast_changes_little(in_single: tuple[Workshop, RunFolder], change: str) -> None:
    """Half precision, the other memory format, a compiled network and larger micro-batches have losses close to single precision."""
    workshop, plain = in_single
    fast = workshop.run(*SINGLE, change, in_process=False, until="train").folder
    assert fast != plain
    assert losses(fast) == pytest.approx(losses(plain), abs=LOSS_OFF)


def test_the_batch_is_what_fits_the_memory(workshop: Workshop, gpu_cluster: None) -> None:
    """Found by real steps in a process of its own; the batch of 16 images fits any GPU in one go."""
    changes = [change for change in SINGLE if "micro_batch" not in change]
    folder = workshop.run(*changes, "train.micro_batch=auto", in_process=False, until="train").folder
    (chosen,) = named(folder, PROBED)
    assert chosen["rows"] == 16
    assert "of a GPU, tried on one worker" in chosen["reason"]


def test_training_goes_on_from_a_checkpoint_of_a_gpu(workshop: Workshop, gpu_cluster: None) -> None:
    """With its newest checkpoint gone, the run takes the one before and trains the last epoch again, with about the same losses."""
    folder = workshop.run(*SINGLE, in_process=False, until="train").folder
    before = losses(folder)
    shutil.rmtree(max(folder.checkpoints.glob("step-*")))
    folder.weights.unlink()
    workshop.run(*SINGLE, in_process=False, until="train")
    assert named(folder, "TrainingStarted")[-1]["resumed_from_step"] > 0
    assert losses(folder)[len(before) :] == pytest.approx(before[2:], abs=0.01)


def test_evaluation_is_exact(workshop: Workshop, gpu_cluster: None) -> None:
    """Every test image once, with the probabilities that the CPU finds for the same model."""
    folder = workshop.run(*SINGLE, in_process=False).folder
    on_gpu, metrics = pq.read_table(folder.predictions), json.loads(folder.metrics.read_bytes())
    assert len(set(on_gpu["id"].to_pylist())) == on_gpu.num_rows == metrics["rows"] == 24
    with pytest.MonkeyPatch.context() as patch:
        hide_gpus(patch)
        evaluate_run(folder, workshop.root, in_process=True, watch=lambda _: nullcontext(), announce=lambda _: None)
    expected = pq.read_table(folder.predictions)
    assert on_gpu["id"] == expected["id"]
    assert np.allclose(on_gpu["label_probability"].to_numpy(), expected["label_probability"].to_numpy(), atol=1e-3)
    assert metrics["loss"] == pytest.approx(json.loads(folder.metrics.read_bytes())["loss"], abs=1e-3)
