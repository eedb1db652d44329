"""The `augment` list of a job file: its short forms, its bounds, and how a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from orchestrator.errors import JobError
from orchestrator.spec.augment import SECTIONS
from orchestrator.spec.job import JobSpec, resolved
from orchestrator.spec.load import load_job
from orchestrator.spec.schema import job_schema
from orchestrator.spec.yaml import dump_yaml

JOB = "name: pets\ndata: {source: images}\naugment:\n"


def load(place: Path, *steps: str) -> JobSpec:
    path = place / "job.yaml"
    path.write_text(JOB + "".join(f"  - {step}\n" for step in steps))
    return load_job(path).job


@pytest.mark.parametrize("name", SECTIONS)
def test_a_name_alone_takes_every_default(tmp_path: Path, name: str) -> None:
    """As does the name with nothing after its colon, and with no keys."""
    (alone,) = load(tmp_path, name).augment
    assert alone.transform == name
    assert load(tmp_path, f"{name}:").augment == load(tmp_path, f"{name}: {{}}").augment == (alone,)


def test_a_resolved_augmentation_loads_to_the_same(tmp_path: Path) -> None:
    """Every transform with its defaults, and an entry with all kinds of arguments."""
    own = "{entry: 'a.b:c', kwargs: {flag: true, none: null, list: [1, 2.5], name: x, inner: {key: 1}}}"
    job = load(tmp_path, *SECTIONS, own)
    assert job.augment[-1].kwargs == {"flag": True, "none": None, "list": [1, 2.5], "name": "x", "inner": {"key": 1}}
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_yaml(resolved(job)))
    assert load_job(path).job == job


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("rotate", "augment.0.rotate: unknown key"),
        ("solarize", 'augment.0.solarize: unknown key; did you mean "solarise"?'),
        ("{randaugment: {ops: 2}}", 'did you mean "rand_augment"?'),
        ("{blur: {sgima: [1, 2]}}", 'augment.0.blur.sgima: unknown key; did you mean "sigma"?'),
        ("{random_crop: {probability: 0.5}}", "augment.0.random_crop.probability: unknown key; known here: padding"),
        ("{blur: {sigma: 2}}", "augment.0.blur.sigma: must be two numbers, the smaller one first"),
        ("{blur: {sigma: [2]}}", "augment.0.blur.sigma: must be two numbers, the smaller one first"),
        ("{blur: {sigma: [2, 1]}}", "augment.0.blur.sigma: must be two numbers, the smaller one first, not [2, 1]"),
        ("{blur: {sigma: [1, 11]}}", "augment.0.blur.sigma.1: must be at most 10, not 11"),
        ("{blur: {sigma: [a, 2]}}", 'augment.0.blur.sigma.0: must be a number, not "a"'),
        ("{jpeg: {quality: [50.5, 90]}}", "augment.0.jpeg.quality.0: must be a whole number, not 50.5"),
        ("{hue: {amount: 0.6}}", "augment.0.hue.amount: must be at most 0.5, not 0.6"),
        ("{hue: 0.1}", "augment.0.hue: must be a section with keys, not 0.1"),
        ("{affine: {border: mirror}}", "augment.0.affine.border: must be reflect or black"),
        ("{rand_augment: {magnitude: 31}}", "must be at most 30, not 31"),
        ("{trivial_augment: {magnitude: 3}}", "augment.0.trivial_augment.magnitude: unknown key"),
        ("{grey: {}, blur: {}}", "grey and blur stand together: begin each with its own -"),
        ("{blur: {}, kwargs: {sigma: 1}}", "kwargs belong to entry"),
        ("{kwargs: {sigma: 1}}", "nothing is given"),
        ("{}", "nothing is given"),
        ("{entry: fade}", 'augment.0.entry: must be module:function, such as "my_package.my_module:my_function"'),
        ("{entry: 'a:b:c'}", "must be module:function"),
        ("{entry: 3}", "augment.0.entry: must be text, not 3"),
        ("{entry: }", "augment.0.entry: must be text"),
        ("{entry: 'a:b', kwargs: [1]}", "augment.0.kwargs: must be a section with keys, not a list"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, step: str, found: str) -> None:
    """One problem, on the line of the step, in plain words."""
    with pytest.raises(JobError) as raised:
        load(tmp_path, step)
    (problem,) = raised.value.problems
    assert problem.where.startswith(f"{tmp_path}/job.yaml:4")
    assert found in f"{problem.where}: {problem.what}"


def test_keys_of_augmentations_are_not_suggested_elsewhere(tmp_path: Path) -> None:
    """`probability` stands in many of them; an unknown key of the image is compared with the keys of the image."""
    path = tmp_path / "job.yaml"
    path.write_text("name: pets\ndata: {source: images, image: {quality: 90}}\n")
    with pytest.raises(JobError) as raised:
        load_job(path)
    (problem,) = raised.value.problems
    assert problem.what == 'unknown key; did you mean "jpeg_quality"?'


def test_an_entry_is_not_imported(tmp_path: Path) -> None:
    """A job file that names a function can be read where the function is not installed."""
    assert load(tmp_path, "{entry: 'not_there.at_all:fade'}").augment[0].entry == "not_there.at_all:fade"


@pytest.mark.parametrize(
    ("step", "accepted"),
    [
        *((name, True) for name in SECTIONS),
        *(({name: {}}, True) for name in SECTIONS),
        ({"entry": "a:b"}, True),
        ({"entry": "a:b", "kwargs": {"x": 1}}, True),
        ({"blur": {"sigma": [0.5, 1]}}, True),
        ({"blur": {"sigma": [0.5, 11]}}, False),
        ({"blur": {"sigma": [0.5]}}, False),
        ({"blur": {}, "grey": {}}, False),
        ({"blur": {}, "kwargs": {}}, False),
        ({"kwargs": {}}, False),
        ("entry", False),
        ({}, False),
    ],
)
def test_the_schema_accepts_what_the_loader_accepts(step: object, accepted: bool) -> None:
    """Editors know the short forms, the single key, and the pair of entry and kwargs."""
    job = {"name": "pets", "data": {"source": "images"}, "augment": [step]}
    assert jsonschema.Draft202012Validator(job_schema()).is_valid(job) is accepted
