"""The loop that ours is compared with: plain DistributedDataParallel, pixels from memory. torchrun starts it, with an order in JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from orchestrator.spec.model import ModelSpec
from orchestrator.training.models import build_model

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Order:
    """How one worker trains."""

    source: str
    """Folder with a folder of images per class."""
    network: str
    micro_batch_rows: int
    micro_batches: int
    """Of this worker in each step."""
    steps: int
    threads: int
    half: bool
    """Forward passes in bf16."""
    channels_last: bool
    lr: float
    momentum: float
    weight_decay: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    """Train; rank 0 prints when each step was done, and with how many threads."""
    order = Order(**json.loads(sys.argv[1]))
    torch.set_num_threads(order.threads)
    dist.init_process_group("gloo")
    ends = train(order, *load_images(Path(order.source)))
    if dist.get_rank() == 0:
        print(json.dumps({"ends": ends, "threads": torch.get_num_threads(), "workers": dist.get_world_size()}))  # noqa: T201 -- the answer
    dist.barrier()  # a process whose peer has gone may be aborted by gloo
    dist.destroy_process_group()


def load_images(folder: Path) -> tuple[Tensor, Tensor]:
    """All of them: (N, H, W, 3) uint8, and their labels, (N,)."""
    files = sorted(folder.glob("*/*"))
    classes = sorted({file.parent.name for file in files})
    images = np.stack([cv2.imread(str(file))[..., ::-1] for file in files])
    return torch.from_numpy(images), torch.tensor([classes.index(file.parent.name) for file in files])


def train(order: Order, images: Tensor, labels: Tensor) -> list[float]:
    """One epoch; the moments, in seconds since 1970, when its steps were done."""
    torch.manual_seed(0)
    sizes = {"num_classes": int(labels.max()) + 1, "in_channels": 3, "image_size": images.shape[1]}
    memory_format = torch.channels_last if order.channels_last else torch.contiguous_format
    network = build_model(ModelSpec(name=order.network), **sizes).to(memory_format=memory_format)
    model = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=order.lr, momentum=order.momentum, weight_decay=order.weight_decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, order.steps)
    scale, shift = 1 / (255 * torch.tensor(STD)), -torch.tensor(MEAN) / torch.tensor(STD)
    mine = torch.randperm(len(images))[dist.get_rank() :: dist.get_world_size()].split(order.micro_batch_rows)
    ends, loss_sum, hits = [], 0.0, 0
    model.train()
    for step in range(order.steps):
        optimizer.zero_grad(set_to_none=True)
        for part in range(order.micro_batches):
            rows = mine[step * order.micro_batches + part]
            inputs = (images[rows].float() * scale + shift).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
            with model.no_sync() if part < order.micro_batches - 1 else nullcontext():
                with torch.autocast("cpu", torch.bfloat16, enabled=order.half):
                    logits = model(inputs)
                loss = cross_entropy(logits.float(), labels[rows])
                (loss / order.micro_batches).backward()
            loss_sum += loss.item()
            hits += int((logits.argmax(1) == labels[rows]).sum())
        optimizer.step()
        schedule.step()
        ends.append(time.time())
    return ends


if __name__ == "__main__":
    main()
