"""What the workers of a group do together; alone, each of these is the obvious thing."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.errors import TrainingError


def world() -> tuple[int, int]:
    """Rank and number of workers."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wrap(model: nn.Module, device: torch.device, on_last_gradient: Callable[[], object], *, some_idle: bool = False) -> nn.Module:
    """Average gradients over the workers; buffers are averaged at the end of an epoch instead of sent at every step.

    Args:
        model: On `device`.
        device: What this worker computes on.
        on_last_gradient: Called in every step that exchanges gradients when this worker has computed all of its own, on the thread
            that computes them; what follows until backward returns is waiting for the exchange. Never called for a single worker.
        some_idle: There are parameters without a gradient, which are not to be waited for; looking for them costs time in every step.
    """
    workers = world()[1]
    if workers == 1:
        return model

    def exchange(bucket: Any) -> Any:
        """The mean over all workers of a bucket of gradients, to come."""
        if bucket.is_last():
            on_last_gradient()
        gradients = bucket.buffer().mul_(1 / workers)  # as DDP does it: the same bits as without this hook
        return dist.all_reduce(gradients, async_op=True).get_future().then(lambda done: done.value()[0])

    devices = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(
        model, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=some_idle
    )
    wrapped.register_comm_hook(None, lambda _, bucket: exchange(bucket))  # DDP would compare annotations to its own classes
    return wrapped


def has_idle_parameters(model: nn.Module, sizes: dict[str, int], device: torch.device) -> bool:
    """Whether the loss leaves out parameters that are to be trained, as those of a head that is not used.

    Found by passing two grey images through a copy; of a network that cannot be copied it is assumed.

    Args:
        model: On `device`; it stays as it is, and so do torch's random numbers.
        sizes: As of `TrainWork`.
        device: Where to compute.
    """
    try:
        trial = copy.deepcopy(model)
    except Exception:  # noqa: BLE001 -- whatever a network holds: weights that are no leaves, a lock, a module
        return True
    size = sizes["image_size"]
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        trial.train()(torch.zeros(2, sizes["in_channels"], size, size, device=device)).sum().backward()
    return any(parameter.requires_grad and parameter.grad is None for parameter in trial.parameters())


def unwrap(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def all_reduce_max(values: Sequence[int], device: torch.device) -> list[int]:
    """The largest of each value over all workers."""
    if world()[1] == 1:
        return list(values)
    tensor = torch.tensor(list(values), dtype=torch.int32, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return [int(value) for value in tensor.tolist()]


def sum_across(values: Sequence[float], device: torch.device) -> list[float]:
    """The sum of each value over all workers, in double precision."""
    if world()[1] == 1:
        return list(values)
    tensor = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def average_buffers(model: nn.Module, still: Sequence[nn.Module] = ()) -> None:
    """Give every worker the mean of all workers' batch statistics; counters, and what stands in `still`, are equal already."""
    workers = world()[1]
    if workers == 1:
        return
    equal = {id(buffer) for module in still for buffer in module.buffers()}
    for buffer in unwrap(model).buffers():
        if buffer.is_floating_point() and id(buffer) not in equal:
            dist.all_reduce(buffer)
            buffer.div_(workers)


def own_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of this worker's batch statistics, on the CPU."""
    return {name: buffer.detach().cpu().clone() for name, buffer in unwrap(model).named_buffers()}


def set_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    for name, buffer in unwrap(model).named_buffers():
        buffer.data.copy_(buffers[name])


def mean_statistics(ranks: Sequence[dict[str, Any]]) -> dict[str, dict[str, torch.Tensor]]:
    """The mean over workers of `buffers` and `average_buffers`; what is equal, or counts, is that of rank 0, because a mean may round."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for kind in ("buffers", "average_buffers"):
        for name, first in ranks[0].get(kind, {}).items():
            values = [rank[kind][name] for rank in ranks]
            same = not first.is_floating_point() or all(torch.equal(value, first) for value in values)
            found.setdefault(kind, {})[name] = first if same else torch.stack(values).mean(dim=0)
    return found


def gather(own: dict[str, Any]) -> list[dict[str, Any]]:
    """What every worker holds, by rank; on the CPU."""
    workers = world()[1]
    if workers == 1:
        return [own]
    gathered: list[dict[str, Any]] = [{}] * workers
    dist.all_gather_object(gathered, own)
    return gathered


def weights_sha256(model: nn.Module) -> str:
    """Hash of all parameters and buffers, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in unwrap(model).state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_same_weights(model: nn.Module) -> str:
    """Prove that all workers hold the same weights.

    Returns:
        Their hash.

    Raises:
        TrainingError: Named ranks differ from rank 0.
    """
    own = weights_sha256(model)
    rank, workers = world()
    if workers == 1:
        return own
    digests = [""] * workers
    dist.all_gather_object(digests, own)
    strays = [number for number, digest in enumerate(digests) if digest != digests[0]]
    if strays:
        raise TrainingError(
            f"the workers diverged: ranks {strays} hold other weights than rank 0",
            "the gradients are not averaged; report this with the run folder",
        )
    return digests[rank]
