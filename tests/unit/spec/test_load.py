"""Job files: what is accepted, and how every mistake is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import JobError
from orchestrator.spec.job import JobSpec, resolved
from orchestrator.spec.load import load_job
from orchestrator.spec.scalars import HIDDEN
from orchestrator.spec.yaml import dump_yaml, load_yaml

GOOD = "name: pets\ndata:\n  source: images\n"


def write(place: Path, text: str) -> Path:
    path = place / "job.yaml"
    path.write_text(text)
    return path


def problems(place: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(JobError) as raised:
        load_job(write(place, text), overrides)
    return [f"{problem.where}: {problem.what}".removeprefix(f"{place}/") for problem in raised.value.problems]


def test_a_name_and_a_source_are_a_job(tmp_path: Path) -> None:
    """Everything else has a default, and the source is seen from the folder of the job file."""
    loaded = load_job(write(tmp_path, GOOD))
    assert loaded.job.data.source == str(tmp_path / "images")
    assert loaded.job.train.epochs == 10
    assert loaded.text == GOOD


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Each with its line and dotted key; those of the command line come last."""
    text = GOOD + "  imge: {size: 32}\ntrain:\n  epochs: -1\n  batch: [1]\n"
    assert problems(tmp_path, text, "model.name=resnet81") == [
        'job.yaml:4  data.imge: unknown key; did you mean "image"?',
        "job.yaml:6  train.epochs: must be at least 1, not -1",
        "job.yaml:7  train.batch: must be a whole number or auto, not a list",
        'command line  model.name: must be a known name, hf:NAME, timm:NAME or torchvision:NAME, not "resnet81"; did you mean "resnet8"?',
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "job.yaml: the file is empty"),
        ("- a\n", "job.yaml:1: a job is made of lines such as"),
        ("name: pets\n", "missing key"),
        (GOOD + "name: again\n", "job.yaml:4  name: this key was given on line 1 already"),
        (GOOD + "train:\n\tepochs: 3\n", "a tab stands where spaces are expected"),
        (GOOD + "train: {epochs: 3\n", 'a closing "}" is missing'),
        (GOOD + "train: {epochs: true}\n", "must be a whole number, not true"),
        (GOOD + "train: {epochs: 2.5}\n", "must be a whole number, not 2.5"),
        (GOOD + "train: {lr: .nan}\n", "must be a finite number"),
        (GOOD + "train: {lr: '0.1'}\n", "must be a number"),
        (GOOD + "train:\n", "has no value"),
        (GOOD + "epochs: 3\n", 'did you mean "train.epochs"'),
        (GOOD + "augment: [{random_crop: {padding: 2}, horizontal_flip: {}}]\n", "must be one augmentation"),
        (GOOD + "augment: [sharpen]\n", "augment.0"),
        (GOOD + "x: &a [1]\ny: *a\n", "aliases are not allowed"),
        (GOOD + "x: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
        (GOOD + "---\nname: b\n", "a second document begins here"),
        ("name: Pets\ndata: {source: images}\n", "lower-case letters"),
        ("name: pets\ndata: {source: images, split: {validation: 0.5, test: 0.5}}\n", "leave nothing to train on"),
        (GOOD + "  image: {size: 64, store_size: 32}\n", "store_size 32 is smaller than size 64"),
        (GOOD + "  image: {store: original, store_size: 256}\n", "originals are kept as they are"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", "levels deep"),
        ("name: p\u202eets\n", "job.yaml:1"),
    ],
)
def test_a_mistake_is_named_in_plain_words(tmp_path: Path, text: str, found: str) -> None:
    """No mistake shows the words of a library, and none passes."""
    lines = problems(tmp_path, text)
    assert any(found in line for line in lines), lines


def test_no_mistake_hides_in_a_large_file(tmp_path: Path) -> None:
    """A file above one MiB, and one with a hundred unknown keys, end in a message that fits a screen."""
    assert "at most 1" in problems(tmp_path, "#" * 2_000_000)[0]
    many = problems(tmp_path, GOOD + "".join(f"key{number}: 1\n" for number in range(100)))
    assert len(many) == 21
    assert "and 80 more" in many[-1]


@pytest.mark.parametrize(("name", "found"), [("jbo.yaml", "did you mean"), (".", "a folder, not a job file")])
def test_a_job_file_that_is_none(tmp_path: Path, name: str, found: str) -> None:
    """The error of a missing file names the near one, and what writes a new one."""
    write(tmp_path, GOOD)
    with pytest.raises(JobError, match=found) as raised:
        load_job(tmp_path / name)
    assert raised.value.exit_code == 2
    assert "orchestrator init" in str(raised.value.next_step)


def test_the_error_survives_pickling(tmp_path: Path) -> None:
    """What a worker raises arrives with its problems."""
    with pytest.raises(JobError) as raised:
        load_job(write(tmp_path, "x: 1\n"))
    assert pickle.loads(pickle.dumps(raised.value)).problems == raised.value.problems  # noqa: S301 -- our own


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=3", ("train", "epochs"), 3),
        ("train.lr=1e-3", ("train", "lr"), 0.001),
        ("train.workers=auto", ("train", "workers"), "auto"),
        ("data.image={size: 64, store: raw}", ("data", "image", "store"), "raw"),
        ("train.select = last", ("train", "select"), "last"),
    ],
)
def test_changes_from_the_command_line(tmp_path: Path, override: str, path: tuple[str, ...], value: object) -> None:
    """`key=value` sets what the file leaves out or says otherwise."""
    found: object = load_job(write(tmp_path, GOOD), [override]).job
    for name in path:
        found = getattr(found, name)
    assert found == value


def test_changes_reach_into_lists(tmp_path: Path) -> None:
    """An augmentation is addressed by its place, also where the file gives its name alone."""
    text = GOOD + "augment: [random_crop, horizontal_flip]\n"
    job = load_job(write(tmp_path, text), ["augment.0.random_crop.padding=7"]).job
    assert job.augment[0].random_crop is not None
    assert job.augment[0].random_crop.padding == 7


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("epochs", "is not key=value"),
        ("train.epoch=3", 'did you mean "epochs"'),
        ("name.first=x", "has no keys inside"),
        ("train.epochs=", "train.epochs"),
        ("=3", "is not key=value"),
    ],
)
def test_a_change_that_cannot_be_made(tmp_path: Path, override: str, found: str) -> None:
    """It is named as it was typed, as coming from the command line."""
    (line,) = problems(tmp_path, GOOD, override)
    assert line.startswith("command line")
    assert found in line


def test_a_source_on_the_command_line_is_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed is relative to where it is typed."""
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "jobs", GOOD)
    assert load_job(path, ["data.source=images"]).job.data.source == str(tmp_path / "images")
    assert load_job(path).job.data.source == str(tmp_path / "jobs" / "images")


def test_the_resolved_job_is_a_job_file(tmp_path: Path) -> None:
    """What `show` prints loads to the same job."""
    job = load_job(write(tmp_path, GOOD + "augment: [{random_crop: {padding: 2}}, horizontal_flip]\n")).job
    again = load_job(write(tmp_path, dump_yaml(resolved(job)))).job
    assert again == job


WHOLE = st.integers(1 - 2**63, 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: not HIDDEN.search(text))
SCALARS = st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | TEXT
KEYS = st.text("abcxyz_", min_size=1)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)


@settings(max_examples=300)
@given(text=st.text(max_size=200) | st.text("abc:-[]{}&*!#'\"\n \t,|>%@0123", max_size=80))
def test_any_text_is_a_job_or_a_job_error(text: str) -> None:
    """Whatever stands in a file: data, or an error with a place. Nothing else escapes."""
    found = None
    try:
        data: object = load_yaml(text, "job.yaml").data
    except JobError as error:
        found = error
        data = {}
    assert isinstance(data, dict)
    assert found is None or (found.problems and all(problem.where.startswith("job.yaml") for problem in found.problems))


@settings(max_examples=200)
@given(data=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_what_is_dumped_is_read_back(data: dict[str, object]) -> None:
    """Plain data survives the way through a file, whatever it looks like."""
    assert load_yaml(dump_yaml(data), "job.yaml").data == data


def test_every_key_is_described() -> None:
    """The schema is the reference of the job file: no key without a sentence."""

    def undescribed(schema: dict[str, object]) -> list[str]:
        return [name for name, value in schema.get("properties", {}).items() if not {"description", "$ref"} & set(value)]  # type: ignore[attr-defined]

    schema = JobSpec.model_json_schema()
    assert not undescribed(schema)
    assert all(section["description"] for section in schema["$defs"].values())
    assert not [name for section in schema["$defs"].values() for name in undescribed(section)]
