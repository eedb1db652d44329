"""What one worker does on its GPU: copies arrive whole, the fused optimiser steps as the plain one, half precision survives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpus import NEED_GPU

from orchestrator.spec.model import ModelSpec
from orchestrator.spec.train import TrainSpec
from orchestrator.training.batch import Batch, Phase
from orchestrator.training.models import build_model
from orchestrator.training.normalise import Normalize
from orchestrator.training.optim import build_optimizer, load_optimizer
from orchestrator.training.precision import Precision, choose_precision
from orchestrator.training.transfer import Transfer, from_device, to_device

pytestmark = [*NEED_GPU]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
COPIES = 40
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def random_batch(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (64, 56, 56, 3), np.uint8)


def test_copies_that_overlap_give_the_same_pixels() -> None:
    """Many batches on their way at once, each overwritten here as soon as its copy was asked for, arrive as they were."""
    sent = []
    for number in range(COPIES):
        batch = random_batch(number)
        sent.append(to_device(batch, GPU))
        batch[:] = 0
    for number, arrived in enumerate(sent):
        assert arrived.is_cuda
        assert np.array_equal(arrived.cpu().numpy(), random_batch(number))


def test_memory_of_a_copy_is_not_reused_before_it_has_arrived() -> None:
    """While the GPU is busy, copies wait behind its work, and what is copied afterwards does not take their place."""
    busy = torch.randn(4096, 4096, device=GPU)
    for _ in range(20):
        busy = busy @ busy / 64
    arrived = [to_device(random_batch(number), GPU).sum(dtype=torch.int64) for number in range(COPIES)]
    assert [int(total) for total in arrived] == [int(random_batch(number).sum(dtype=np.int64)) for number in range(COPIES)]


def test_micro_batches_travel_beside_the_computing() -> None:
    """Sent one ahead while the GPU is busy, and their memory used again and again: each sum is that of the images that were sent."""
    transfer, busy, totals = Transfer(GPU), torch.randn(4096, 4096, device=GPU), []
    for number in range(COPIES):
        images = random_batch(number)
        sent = transfer.send(Batch(number, Phase.TRAIN, 0, number, images, np.full(64, number), np.zeros((64, 16), np.uint8)))
        images[:] = 0
        busy = busy @ busy / 64
        arrived, labels = transfer.receive(sent)
        totals.append((arrived.sum(dtype=torch.int64), labels.sum()))
    assert transfer.overlaps
    expected = [(int(random_batch(number).sum(dtype=np.int64)), 64 * number) for number in range(COPIES)]
    assert [(int(total), int(labels)) for total, labels in totals] == expected


def test_values_come_back_while_the_gpu_goes_on() -> None:
    """What was computed first is read without waiting for what was asked for afterwards."""
    busy, values = torch.randn(4096, 4096, device=GPU), torch.arange(1000.0, device=GPU) * 3
    answer, done = from_device(values), torch.cuda.Event()
    for _ in range(50):
        busy = busy @ busy / 64
    done.record()
    assert answer().tolist() == [3.0 * number for number in range(1000)]
    assert not done.query()


@pytest.mark.parametrize("values", [np.arange(7), np.zeros((0, 4, 4, 3), np.uint8)])
def test_labels_and_batches_of_no_image_are_copied(values: np.ndarray) -> None:
    """Type and shape stay; read-only arrays are taken too."""
    values.setflags(write=False)
    arrived = to_device(values, GPU).cpu().numpy()
    assert (arrived.dtype, arrived.shape) == (values.dtype, values.shape)
    assert np.array_equal(arrived, values)


@pytest.mark.parametrize("channels_last", [False, True])
def test_pixels_are_normalised_as_on_the_cpu(channels_last: bool) -> None:
    """The same values within a rounding error, in the memory format that was asked for."""
    normalize = Normalize(MEAN, STD, channels_last=channels_last)
    expected = normalize(to_device(random_batch(0), CPU))
    found = normalize.to(GPU)(to_device(random_batch(0), GPU))
    assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    torch.testing.assert_close(found.cpu(), expected)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_fused_optimiser_steps_as_the_plain_one(name: str) -> None:
    """Ten steps with the same gradients lead to the same weights, and its state goes on on a CPU and back."""
    model = build_model(ModelSpec(name="resnet8"), num_classes=3, in_channels=3, image_size=16)
    spec = TrainSpec(optimizer=name, lr=0.01)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    plain = build_optimizer(model, spec)
    trained = step_ten_times(model, plain)
    model.load_state_dict(weights)
    model.to(GPU)
    fused = build_optimizer(model, spec)
    assert [group["fused"] for group in fused.param_groups] == [True] * len(fused.param_groups)
    assert plain.param_groups[0]["fused"] is None
    for found, expected in zip(step_ten_times(model, fused), trained, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)

    optimizer = fused
    for device in (CPU, GPU):
        state = optimizer.state_dict()
        model.to(device)
        optimizer = build_optimizer(model, spec)
        load_optimizer(optimizer, state)
        step_ten_times(model, optimizer)
        assert optimizer.param_groups[0]["fused"] is (True if device is GPU else None)


def step_ten_times(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The weights, on the CPU, after steps whose gradients do not depend on the device."""
    chance = torch.Generator().manual_seed(0)
    for _ in range(10):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=chance).to(parameter.device)
        optimizer.step()
    return [parameter.detach().cpu().clone() for parameter in model.parameters()]


def test_an_overflow_leaves_out_the_step() -> None:
    """fp16 with the fused optimiser: a gradient that is not finite in the very first step changes no weight and halves the scale; the steps
    after it are those of the plain optimiser, which never saw it.
    """
    precision = Precision("fp16", GPU)
    layer = torch.nn.Linear(2, 1, bias=False).to(GPU)
    before, spec = layer.weight.detach().clone(), TrainSpec()
    expected = torch.nn.Parameter(before.cpu().clone())
    plain = torch.optim.SGD([expected], lr=spec.lr, momentum=spec.momentum, nesterov=True, weight_decay=spec.weight_decay)
    optimizer, scale = build_optimizer(layer, spec), precision.scaler.get_scale()
    for factor in (float("inf"), 1.0, 2.0):
        precision.backward((layer(torch.ones(1, 2, device=GPU)) * factor).sum())
        precision.step(optimizer, clip_norm=0.0)
        assert torch.equal(layer.weight, before) == (factor == float("inf"))
        if factor != float("inf"):
            expected.grad = torch.full((1, 2), factor)
            plain.step()
            torch.testing.assert_close(layer.weight.detach().cpu(), expected.detach())
    assert precision.scaler.get_scale() == scale / 2


def test_auto_is_half_precision() -> None:
    """bf16 where the GPU computes with it, else fp16."""
    assert choose_precision("auto", GPU) == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")
