"""Training starts without torch's compiler, and whoever compiles finds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import sys
import torch
from torch import nn
from orchestrator.training.eager import COMPILER, eager
loaded = lambda: f"{COMPILER}.convert_frame" in sys.modules
model = nn.Linear(2, 1)
assert COMPILER not in sys.modules
"""
TRAIN = """
def train(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
"""
WRAP = """
import os
from torch.nn.parallel import DistributedDataParallel
store = torch.distributed.FileStore(os.environ["STORE"], 1)
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
wrapped = lambda: DistributedDataParallel(model)
"""
COMPILE = """
compiled = torch.compile(model, backend="eager", fullgraph=True)
assert torch.equal(compiled(torch.ones(1, 2)), model(torch.ones(1, 2)))
"""


def run(tmp_path: Path, *lines: str) -> None:
    """In a process of its own, where nothing has imported the compiler yet."""
    environment = {"STORE": str(tmp_path / "store"), "PYTHONPATH": ":".join(sys.path)}
    program = "\n".join((BEGIN, TRAIN, WRAP, *lines, "torch.distributed.destroy_process_group()"))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Not for steps, states, the exchange between workers and a count without storage; and what is compiled afterwards finds it."""
    inside = """
    train(wrapped())
    with torch.device("meta"):
        layer = nn.Conv2d(3, 4, 3)
    nn.init.kaiming_normal_(layer.weight)
    layer(torch.empty(1, 3, 8, 8, device="meta"))
    assert not loaded()
"""
    after = "assert COMPILER not in sys.modules", "with eager(compiles=True):", "    train(model)", "    assert loaded()", COMPILE
    run(tmp_path, "with eager(compiles=False):", inside, *after)


def test_torch_imports_the_compiler_by_itself(tmp_path: Path) -> None:
    """What the stand-in is for: where this fails, torch has learned to do without, and it can go. A compiler that is there stays."""
    run(
        tmp_path,
        "train(model)",
        "assert loaded()",
        "before = sys.modules[COMPILER]",
        "with eager(compiles=False):",
        "    train(model)",
        "assert sys.modules[COMPILER] is before",
    )


@pytest.mark.parametrize("asks", ["assert torch._dynamo.utils.counters is not None", "import torch._dynamo.config"])
def test_whoever_asks_for_more_gets_the_compiler(tmp_path: Path, asks: str) -> None:
    """Inside, what the stand-in does not know brings the real module: what is in its modules, and these themselves."""
    after = "    train(model)", "assert loaded()", "train(model)", COMPILE
    run(tmp_path, "with eager(compiles=False):", "    train(model)", f"    {asks}", *after)
