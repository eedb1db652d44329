"""The `model` section of a job file: what goes together, and how a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from orchestrator.errors import JobError
from orchestrator.spec.job import JobSpec, resolved
from orchestrator.spec.load import load_job
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.schema import job_schema
from orchestrator.spec.tune import tuned_job, with_parameters
from orchestrator.spec.yaml import dump_yaml

JOB = "name: pets\ndata: {source: images}\n"


def load(place: Path, model: str) -> JobSpec:
    path = place / "job.yaml"
    path.write_text(f"{JOB}model: {model}\n")
    return load_job(path).job


GOOD = [
    "{}",
    "{name: vit_tiny}",
    "{name: resnet18, stem: small, norm: group}",
    "{name: convnext_femto, stem: imagenet}",
    "{name: 'timm:convnext_atto', kwargs: {drop_path_rate: 0.1}}",
    "{name: 'hf:someone/net', weights: 's3://bucket/net.safetensors', freeze: backbone}",
    "{name: resnet18, weights: /net.pt, freeze: [conv1, layer1.0]}",
    "{entry: 'nets:build', kwargs: {depth: 3, flag: true}, freeze: [stem]}",
    "{weights: /net.pt}",
]


@pytest.mark.parametrize("model", GOOD)
def test_a_resolved_section_loads_to_the_same(tmp_path: Path, model: str) -> None:
    """With every default written out; the schema that editors use takes both."""
    job = load(tmp_path, model)
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_yaml(resolved(job)))
    assert load_job(path).job == job
    jsonschema.Draft202012Validator(job_schema()).validate(resolved(job))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("{name: resnet81}", 'model.name: must be a known name, hf:NAME, .*, not "resnet81"; did you mean "resnet8"?'),
        ("{name: alexnet}", "known are resnet8, .* vit_small"),
        ("{name: 'timm:'}", 'not "timm:"'),
        ("{name: 'nets:build'}", "a function of yours stands under entry, and the zoos are hf, timm, torchvision"),
        ("{name: vit_tiny, entry: 'nets:build'}", "model: name and entry are two ways to say which network; give one of them"),
        ("{name: }", "model: name and entry"),
        ("{entry: nets}", "model.entry: must be module:function"),
        (
            "{name: resnet18, kwargs: {depth: 3}}",
            "kwargs belong to entry and to the networks of hf, timm, torchvision; resnet18 takes none",
        ),
        ("{name: vit_tiny, norm: group}", "norm belongs to the resnets; vit_tiny has its own"),
        ("{entry: 'nets:build', stem: small}", "stem belongs to the resnets and convnexts; nets:build has its own"),
        ("{name: resnet8, stem: imagenet}", "resnet8 is made for small images"),
        ("{freeze: backbone}", "freeze would keep random values: give weights, or freeze nothing"),
        ("{weights: a, freeze: bakbone}", 'model.freeze: must be none or backbone or a list, not "bakbone"; did you mean "backbone"?'),
        ("{weights: a, freeze: [1]}", "model.freeze: must be text, not 1"),
        ("{weights: a, freeze: ['']}", "model.freeze: must not be empty"),
        ("{weights: ''}", "model.weights: must not be empty"),
        ("{weight: a}", 'did you mean "weights"?'),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, model: str, found: str) -> None:
    """With file, line and key."""
    with pytest.raises(JobError, match=found.replace("?", r"\?")) as raised:
        load(tmp_path, model)
    (problem,) = raised.value.problems
    assert problem.where.startswith("job.yaml:3  model") or f"{tmp_path}/job.yaml:3  model" in problem.where


def test_weights_are_seen_from_where_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the job file, or from the working directory when typed on the command line; addresses stay as they are."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(tmp_path, "{weights: net.pt}").model.weights == str(tmp_path / "net.pt")
    assert load(tmp_path, "{weights: 's3://bucket/net.pt'}").model.weights == "s3://bucket/net.pt"
    typed = load_job(tmp_path / "job.yaml", ["model.weights=net.pt"]).job
    assert typed.model.weights == str(tmp_path / "elsewhere" / "net.pt")


def test_tuning_can_choose_the_network(tmp_path: Path) -> None:
    """The job of a trial has the other name, and the tuned job is as short as the user's."""
    job = load(tmp_path, "{norm: group}")
    assert with_parameters(job, {"model.name": "resnet34"}).model == ModelSpec(name="resnet34", norm="group")
    assert tuned_job(job, {"train.layer_decay": 0.75})["train"] == {"layer_decay": 0.75}
    path = tmp_path / "bare.yaml"
    path.write_text(JOB)
    assert "model" not in tuned_job(load_job(path).job, {"train.lr": 0.2})
