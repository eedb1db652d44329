"""Who may import whom, what may be called where, and how large things may grow: read from the source, not from promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "orchestrator"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))

EVERYTHING = frozenset(
    "errors units durable entry spec plan images dataset record training stages reports launch dashboard cli".split()  # noqa: SIM905
)
ALLOWED: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "units": frozenset(),
    "durable": frozenset({"errors"}),
    "entry": frozenset({"errors"}),
    "spec": frozenset({"errors", "units"}),
    "plan": frozenset({"spec", "errors", "units"}),
    "images": frozenset({"errors", "units", "entry"}),
    "dataset": frozenset({"errors", "units", "durable"}),
    "record": frozenset({"errors", "units", "durable"}),
    "training": frozenset({"errors", "units", "durable", "entry", "spec", "plan"}),
    "stages": EVERYTHING - {"cli", "launch", "dashboard", "reports"},
    "reports": frozenset({"record", "errors", "units", "durable"}),
    "dashboard": frozenset({"record", "reports", "errors", "units"}),
    "launch": frozenset({"stages", "plan", "spec", "dataset", "images", "record", "reports", "entry", "errors", "units", "durable"}),
    "cli": EVERYTHING,
    "testing": EVERYTHING - {"cli"},
}
"""Room: the rooms it may import, besides itself. A room is a folder or a file of the package."""

LIBRARIES: dict[str, frozenset[str]] = {
    "ray": frozenset({"stages"}),
    "torch": frozenset({"stages", "training"}),
    "cv2": frozenset({"images", "testing"}),
    "pydantic": frozenset({"spec"}),
    "jinja2": frozenset({"reports", "dashboard"}),
    "aiohttp": frozenset({"stages", "dashboard"}),
}
"""Library: the rooms that may import it. The doctor asks for libraries by name at run time."""

PICKLE_ALLOWED: dict[str, str] = {}
"""File: why unpickling is safe there. Nothing is unpickled."""

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
FORBIDDEN_CALLS = {
    "cv2.imread": "it reads without checking what the file is",
    "cv2.imwrite": "it does not say when the disk is full",
    "yaml.load": "it can build objects: yaml.safe_load",
    "yaml.unsafe_load": "it can build objects: yaml.safe_load",
    "eval": "nothing from outside is run",
    "exec": "nothing from outside is run",
    "os.system": "a shell reads its words anew",
    "os.popen": "a shell reads its words anew",
}

CALLED_BY_FULL_NAME = {name for name in FORBIDDEN_CALLS if "." in name} | {"torch.load", "pickle.load", "pickle.loads"}
"""Not to be imported on their own, because calls are known by their full names."""


def name_of(path: Path) -> str:
    """Where a file stands, as tests print it."""
    return str(path.relative_to(REPOSITORY))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def room_of(module: str) -> str:
    """`orchestrator.stages.cluster` is in `stages`; the package itself is the room ``""``."""
    return module.partition(".")[2].partition(".")[0]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, wherever in the file: TYPE_CHECKING and function bodies count."""
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def own_module(name: str) -> str | None:
    """The file of ours that an imported name comes from: `orchestrator.errors.JobError` is in `orchestrator.errors`."""
    if name in MODULES:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in MODULES else None


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_rooms_import_only_what_the_table_allows(path: Path) -> None:
    """A file imports its own room and those that the table names for it, and every room stands in the table."""
    room = room_of(module_of(path))
    allowed = {room, *(ALLOWED[room] if room else ())}
    ours = [(line, name) for line, name in imports_of(path) if name == "orchestrator" or name.startswith("orchestrator.")]
    wrong = [f"line {line}: {name}" for line, name in ours if room_of(own_module(name) or name) not in {*allowed, ""}]
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    """Ray, torch, OpenCV, pydantic and jinja2 are imported in the rooms made for them alone."""
    room = room_of(module_of(path))
    used = [(line, name.partition(".")[0]) for line, name in imports_of(path)]
    assert [f"line {line}: {name}" for line, name in used if name in LIBRARIES and room not in LIBRARIES[name]] == []


def test_files_do_not_import_in_circles() -> None:
    """The files can be read in an order in which each one uses only files read before it."""
    graph = {module: {own_module(name) for _, name in imports_of(path)} - {None, module} for module, path in MODULES.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def loaded_by(statements: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after some statements."""
    code = f"import sys\n{statements}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_is_light() -> None:
    """`import orchestrator` loads none of the heavy libraries."""
    assert loaded_by("import orchestrator") & {"ray", "torch", "cv2", "pyarrow", "pydantic"} == set()


def test_processes_that_read_start_fast() -> None:
    """What they import, and with it the one that divides a feed, holds nothing that only training needs: it doubles their start."""
    assert loaded_by("import orchestrator.stages.ingest") & {"torch", "ray.train"} == set()


def test_help_is_light() -> None:
    """`orchestrator --help` answers without loading the heavy libraries or the job file's schema."""
    call = "sys.argv = ['orchestrator', '--help']\nfrom orchestrator.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    assert loaded_by(call) & {"ray", "torch", "cv2", "pyarrow", "pydantic"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    """Files stay under 400 lines, functions under 60, and names say what is inside."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < FILE_LINES_MAX
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines >= FUNCTION_LINES_MAX} == {}
    assert path.stem not in VAGUE_NAMES


def faults_of(call: ast.Call, file: str) -> Iterator[str]:
    """Why a call is not allowed in a file of the package."""
    called = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if called in FORBIDDEN_CALLS:
        yield f"line {call.lineno}: {called}: {FORBIDDEN_CALLS[called]}"
    if called == "torch.load" and keywords.get("weights_only") != "True":
        yield f"line {call.lineno}: torch.load without weights_only=True runs code from the file"
    if called.split(".")[0] in ("pickle", "cloudpickle") and called.split(".")[-1] in ("load", "loads") and file not in PICKLE_ALLOWED:
        yield f"line {call.lineno}: {called} runs code from the file"
    if keywords.get("shell", "False") != "False":
        yield f"line {call.lineno}: shell={keywords['shell']}: a shell reads its words anew"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_dangerous_calls_are_absent(path: Path) -> None:
    """Nothing is read by a call that runs code, goes through a shell, or hides failures."""
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert [fault for call in calls for fault in faults_of(call, name_of(path))] == []
    assert [f"line {line}: {name} under another name" for line, name in imports_of(path) if name in CALLED_BY_FULL_NAME] == []


@pytest.mark.parametrize(
    "code",
    [
        "cv2.imread(path)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "pickle.loads(data)",
        "run(command, shell=True)",
        "eval(text)",
    ],
)
def test_the_rule_against_dangerous_calls_bites(code: str) -> None:
    """Each kind of forbidden call is recognised when it stands in a file."""
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert len(list(faults_of(call, "orchestrator/x.py"))) == 1


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_states_its_promise(path: Path) -> None:
    """Test functions carry a docstring."""
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
    assert [node.name for node in functions if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_every_file_says_what_it_is(path: Path) -> None:
    """Files begin with a docstring."""
    assert ast.get_docstring(tree_of(path))
