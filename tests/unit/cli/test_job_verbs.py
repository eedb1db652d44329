"""The verbs about job files, as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.cli.main import main
from orchestrator.spec.load import load_job
from orchestrator.testing import write_image_folder

ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in an empty folder; gives the exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["orchestrator", *arguments])
        with pytest.raises(SystemExit) as raised:
            main()
        printed = capsys.readouterr()
        return int(raised.value.code or 0), printed.out, printed.err

    return run


def test_init_writes_a_job_that_runs(run: Run, tmp_path: Path) -> None:
    """At most twenty lines, valid, on the named folder; its comments count the images."""
    write_image_folder(tmp_path / "my: pets #1", classes=("cat", "dog"), images_per_class=15, size=20)
    code, out, _ = run("init", "my: pets #1")
    job = tmp_path / "my-pets-1.yaml"

    assert code == 0
    assert "orchestrator run my-pets-1.yaml" in out
    assert len(job.read_text().splitlines()) <= 20
    assert "30 images in 2 classes" in job.read_text()
    loaded = load_job(job).job
    assert loaded.data.source == str(tmp_path / "my: pets #1")
    assert loaded.data.image.size == 20


def test_init_replaces_nothing_unasked(run: Run, tmp_path: Path) -> None:
    """A file that is there stays, with exit code 2, until --force."""
    write_image_folder(tmp_path / "pets", classes=("cat", "dog"), images_per_class=3, size=16)
    (tmp_path / "pets.yaml").write_text("mine")
    code, _, err = run("init", "pets")

    assert code == 2
    assert "--force" in err
    assert (tmp_path / "pets.yaml").read_text() == "mine"
    assert run("init", "pets", "--force")[0] == 0
    load_job(tmp_path / "pets.yaml")


def test_init_of_a_missing_folder_is_exit_code_2(run: Run) -> None:
    """It says which folder, and writes nothing."""
    code, _, err = run("init", "nowhere")
    assert code == 2
    assert "nowhere: no such folder" in err
    assert not list(Path.cwd().iterdir())


def test_validate_says_what_is_wrong_for_people_and_programs(run: Run, tmp_path: Path) -> None:
    """Exit code 2, with file and line; --json has the same problems as data."""
    (tmp_path / "job.yaml").write_text("name: a\ndata: {source: b}\ntrain: {epoch: 3}\n")
    code, _, err = run("validate", "job.yaml")
    json_code, out, _ = run("validate", "job.yaml", "--json")

    assert code == json_code == 2
    assert 'job.yaml:3  train.epoch: unknown key; did you mean "epochs"?' in err
    assert json.loads(out) == {
        "valid": False,
        "problems": [{"where": "job.yaml:3  train.epoch", "what": 'unknown key; did you mean "epochs"?'}],
    }


def test_show_prints_a_job_file(run: Run, tmp_path: Path) -> None:
    """Every default is there, changes of the command line too, and the output is the same job."""
    (tmp_path / "job.yaml").write_text("name: a\ndata: {source: b}\n")
    code, out, _ = run("show", "job.yaml", "train.epochs=7")
    (tmp_path / "shown.yaml").write_text(out)

    assert code == 0
    assert load_job(tmp_path / "shown.yaml").job == load_job(tmp_path / "job.yaml", ["train.epochs=7"]).job
    assert json.loads(run("show", "job.yaml", "--json")[1])["train"]["epochs"] == 10


def test_the_kept_schema_is_the_one_of_the_program(run: Run) -> None:
    """`jobs/job.schema.json` is what `orchestrator schema` prints."""
    assert run("schema")[1] == (ROOT / "jobs" / "job.schema.json").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_jobs_we_give_are_valid(path: Path) -> None:
    """For the loader and for editors that know the schema; twenty lines at most."""
    load_job(path)
    schema = json.loads((ROOT / "jobs" / "job.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))
    assert len(path.read_text().splitlines()) <= 20


def test_an_unknown_verb_is_a_usage_error(run: Run) -> None:
    """Exit code 2 and the near verb, without a traceback."""
    code, _, err = run("trian")
    assert code == 2
    assert "Traceback" not in err
    assert "train" in err
