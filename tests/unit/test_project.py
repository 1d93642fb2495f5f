"""The laws of this code base that ruff, mypy and the floors do not know."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import Distribution, distributions, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [
    ROOT / "tg_workbench",
    ROOT / "server_extension" / "tg_server_extension",
    ROOT / "widgets" / "tg_widgets",
]
MODULES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]
NOTEBOOKS = sorted(
    path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PINNED = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = dict(line.split("==") for line in PINNED)

DRAWERS = {"utils", "util", "helpers", "common", "misc", "manager", "base", "core"}
CATCHES_EVERYTHING = {
    "tg_workbench/execution/zygote.py": "a forked child must not unwind into the zygote",
    "tg_workbench/contracts/edges.py": "the last-resort 500",
    "tg_workbench/observability/logs.py": "a line of log must not end what it tells of",
    "tg_workbench/contracts/duties.py": "a duty that fails begins again, whatever it was",
    "tg_workbench/webhooks/courier.py": "one delivery must not end the others",
    "tg_workbench/notifications/postal_round.py": "one letter must not hold up the others",
}
USED_WITHOUT_IMPORT = {
    "fastapi-offline": "the pages at /docs and /redoc come from its files",
    "httptools": "uvicorn takes it up: half the time per request",
    "uvloop": "uvicorn takes it up: half the time per request",
    "websockets": "uvicorn takes it up: /ws/* speak through it",
    "jupyterlab": "where the notebooks are opened",
    "voila": "what publishes a notebook as a dashboard",
    "onnx": "torch asks for it when it writes a network as ONNX",
    "plotly": "the notebooks draw with it",
    "scikit-learn": "the notebooks' data",
}
RUN_ELSEWHERE = {
    "tg_workbench/device/flower_app.py": "by the Python of an environment with Flower",
    "tg_workbench/federation/flower/aggregator.py": "by the Python of an environment with Flower",
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def normal(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """What the project says it needs at run time, always or for an option."""
    options = PROJECT["optional-dependencies"]
    lines = [line for name, lines in options.items() if name != "test" for line in lines]
    return {normal(re.split(r"[^\w.-]", line)[0]) for line in [*PROJECT["dependencies"], *lines]}


def imported_names(tree: ast.AST) -> set[str]:
    """The top-level modules that a module imports, in any line."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    ]
    return {name.split(".")[0] for name in names}


def imported() -> set[str]:
    """The distributions that our packages import."""
    ours = {*sys.stdlib_module_names, *(folder.name for folder in FOLDERS)}
    here = [path for path in MODULES if named(path) not in RUN_ELSEWHERE]
    names = set[str]().union(*(imported_names(ast.parse(path.read_text())) for path in here)) - ours
    provider = packages_distributions()
    return {normal(distribution) for name in names for distribution in provider.get(name, [name])}


def licence(distribution: Distribution) -> str:
    """All that a distribution says about its licence, in short."""
    metadata = distribution.metadata
    said = [*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or [])]
    said += [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
    return " ".join(text.partition("\n")[0] for text in said)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{named(path)} opens without a docstring"


def test_no_module_is_a_drawer() -> None:
    assert [named(path) for path in MODULES if {path.stem, *path.relative_to(ROOT).parts} & DRAWERS] == []


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes every exception and does not end by raising it, or another from it."""
    caught = {ast.unparse(node) for node in ast.walk(handler.type)} if handler.type else {"BaseException"}
    end = handler.body[-1]
    hands_on = isinstance(end, ast.Raise) and (end.exc is None or end.cause is not None)
    return bool(caught & {"Exception", "BaseException"}) and not hands_on


def test_everything_is_caught_in_few_places() -> None:
    handlers = {
        named(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node)
    }
    assert handlers == set(CATCHES_EVERYTHING)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_bytes_are_run_as_code(path: Path) -> None:
    """Pickle, `torch.load`, `eval`, a shell or a hub's own code would make a file into a program."""
    tree = ast.parse(path.read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    switches = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert calls & {"torch.load", "eval", "exec", "os.system", "os.popen"} == set()
    assert switches & {"shell=True", "allow_pickle=True", "trust_remote_code=True"} == set()
    assert imported_names(tree) & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"} == set()


def test_what_is_imported_is_declared() -> None:
    assert imported() - declared() == set()


def test_what_is_declared_is_imported() -> None:
    assert declared() - imported() - set(USED_WITHOUT_IMPORT) == set()


def test_every_version_is_pinned() -> None:
    tests = {normal(re.split(r"[^\w.-]", line)[0]) for line in PROJECT["optional-dependencies"]["test"]}
    pinned = {normal(name) for name in PINS}
    assert declared() | tests <= pinned
    assert sorted(PINNED, key=str.upper) == PINNED


def test_the_environment_holds_the_pinned_versions() -> None:
    pinned = {normal(name): version for name, version in PINS.items()}
    here = {normal(d.name): d.version.partition("+")[0] for d in distributions() if normal(d.name) in pinned}
    assert {name: (version, pinned[name]) for name, version in here.items() if version != pinned[name]} == {}


def test_no_dependency_asks_for_our_source() -> None:
    """The workbench is Apache-2.0; the GPL family's conditions would reach whoever builds on it."""
    pinned = {normal(name) for name in PINS}
    said = {d.name: licence(d) for d in distributions() if normal(d.name) in pinned}
    assert {name: text for name, text in said.items() if re.search(r"GPL|General Public", text)} == {}


def test_every_test_is_run_by_make_test() -> None:
    folders = tuple(f"{folder}/" for folder in PYPROJECT["tool"]["pytest"]["ini_options"]["testpaths"])
    found = sorted(named(path) for path in (ROOT / "tests").rglob("test_*.py"))
    assert [path for path in found if not path.startswith(folders)] == []


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]
