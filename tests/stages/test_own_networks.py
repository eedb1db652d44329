"""Networks of every kind from a folder of images to an evaluated model, and what stops before anything starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from workshop import Workshop

from orchestrator.entry import import_function
from orchestrator.errors import JobError, PlanError, TrainingError
from orchestrator.launch.evaluate import evaluate_run
from orchestrator.launch.run import RunOutcome
from orchestrator.record.journal import read_events

Make = Callable[..., Workshop]
SHORT = ("train.epochs=1", "train.optimizer=adamw", "train.lr=0.001", "model.norm=batch")
NETWORK = """\
import torch

def build(num_classes, in_channels, width=8):
    layers = torch.nn.Conv2d(in_channels, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, num_classes))
"""


def evaluate(workshop: Workshop, outcome: RunOutcome, *, in_process: bool) -> int:
    """Evaluate again, from the model folder alone; the rows that were predicted."""
    folder = outcome.folder
    evaluate_run(folder, workshop.root, split="validation", in_process=in_process, watch=lambda _: nullcontext(), announce=lambda _: None)
    return int(json.loads(folder.metrics.read_bytes())["rows"])


@pytest.mark.parametrize("name", ["convnext_femto", "vit_tiny"])
def test_a_network_that_comes_along_is_trained_and_evaluated(make_workshop: Make, name: str) -> None:
    """Some steps of it; the model folder rebuilds it, and the plan of the run has what it costs."""
    workshop = make_workshop()
    outcome = workshop.run(f"model.name={name}", *SHORT, in_process=True)
    facts = json.loads((outcome.folder.model / "model.json").read_bytes())

    assert (facts["name"], facts["image_size"]) == (name, 16)
    assert json.loads(outcome.folder.plan.read_bytes())["model"]["parameters"] > 4_000_000
    assert evaluate(workshop, outcome, in_process=True) == 24


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the working directory, which Ray's workers share."""
    (tmp_path / "own_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_function.cache_clear()


def test_a_function_of_the_users_is_trained_and_evaluated(make_workshop: Make, own: None) -> None:
    """The model folder says which function built it, and with what; when it builds another network later, that is said."""
    workshop = make_workshop()
    outcome = workshop.run("model={entry: 'own_net:build', kwargs: {width: 12}}", "train.epochs=1", in_process=True)
    place = outcome.folder.model / "model.json"
    facts = json.loads(place.read_bytes())

    assert (facts["entry"], facts["kwargs"], "name" in facts) == ("own_net:build", {"width": 12}, False)
    assert evaluate(workshop, outcome, in_process=True) == 24
    place.write_text(json.dumps(facts | {"kwargs": {"width": 9}}))
    with pytest.raises(TrainingError, match=r"own_net:build builds another network than the one that was trained: 0\.weight is \(12"):
        evaluate(workshop, outcome, in_process=True)


def test_weights_are_taken_over_and_frozen(make_workshop: Make, in_process: bool) -> None:
    """From a run on three classes to one with the same backbone: its layers keep their bits, the journal has the file and its hash."""
    workshop = make_workshop()
    first = workshop.run(in_process=True, until="train").folder.weights
    tensors = load_file(first)
    start = workshop.job.parent / "start.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}, start)
    outcome = workshop.run(
        f"model.weights={start}", "model.freeze=backbone", "train.layer_decay=0.8", "train.seed=1", in_process=in_process, until="train"
    )
    trained = load_file(outcome.folder.weights)
    (loaded,) = (event for event in read_events(outcome.folder.events) if event["event"] == "WeightsLoaded")
    plan = json.loads(outcome.folder.plan.read_bytes())

    assert [name for name, tensor in trained.items() if not tensor.equal(tensors[name])] == ["fc.bias", "fc.weight"]
    assert loaded["source"] == str(start)
    assert loaded["sha256"] == plan["model"]["weights_sha256"]
    assert loaded["new_head"] == plan["model"]["new_head"] == "new fc for 3 classes, the file has none"


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("model.weights=nothing.pt", "there is no file of weights .*nothing.pt"),
        ("model.weights={job}", "is no file of weights, or damaged"),
        ("data.image.size=37", "images of 37 pixels do not divide into patches for vit_tiny"),
    ],
)
def test_a_network_that_cannot_be_trained_stops_before_anything_starts(make_workshop: Make, override: str, found: str) -> None:
    """Exit code 2, and no image was prepared."""
    workshop = make_workshop()
    with pytest.raises(PlanError, match=found):
        workshop.run("model.name=vit_tiny", "model.norm=batch", override.format(job=workshop.job), in_process=True)
    assert not list(workshop.root.path.glob("data/*/shards"))
    assert not workshop.root.runs.exists()


@pytest.mark.parametrize(
    ("name", "package"), [("hf:vit", "transformers"), ("timm:resnet18", "timm"), ("torchvision:resnet18", "torchvision")]
)
def test_a_missing_package_is_one_line(make_workshop: Make, name: str, package: str) -> None:
    """With the command that installs it, before anything starts."""
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed here, and this is about machines without it")
    workshop = make_workshop()
    with pytest.raises(JobError) as raised:
        workshop.run(f"model.name={name}", "model.norm=batch", in_process=True)
    zoo = name.partition(":")[0]
    assert raised.value.exit_code == 2
    assert str(raised.value).endswith(
        f"model.name: {name} needs the package {package}, which is not installed: pip install 'orchestrator[{zoo}]'"
    )
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_module_of_ones_own_is_told_before_anything_starts(make_workshop: Make) -> None:
    """All of them at once, although only the workers import them, hours later where there is much to prepare."""
    workshop = make_workshop()
    job = ("model={entry: 'own_nett:build'}", "augment=[horizontal_flip, {entry: 'own.fades:fade'}]")
    with pytest.raises(JobError) as raised:
        workshop.run(*job, in_process=True)
    found = str(raised.value)
    assert raised.value.exit_code == 2
    assert "model.entry: there is no module for own_nett:build in the installed packages or in " in found
    assert "augment.1.entry: there is no module for own.fades:fade" in found
    assert not list(workshop.root.path.glob("data/*/shards"))
