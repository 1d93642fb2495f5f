"""Whatever a document has and we serve is shown by a test, and the page says what the code does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.compatibility import operations, served

ROOT = Path(__file__).parents[2]
RUN = """
import pytest

@pytest.mark.operation("S0-01", "S0-02")
@pytest.mark.parametrize("case", range(3))
def test_that_passes(case):
    pass

@pytest.mark.operation("S0-02")
def test_that_fails():
    assert False
"""


def marks(source: str) -> Iterator[str]:
    """The ids that a module's tests are marked with."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mark"), attr="operation")):
                yield from (ast.literal_eval(argument) for argument in node.args)


MARKED = {name for path in (ROOT / "tests").rglob("test_*.py") for name in marks(path.read_text())}


def test_every_operation_that_is_served_has_a_test() -> None:
    assert sorted(served() - MARKED) == [], "mark a test of each with @pytest.mark.operation"


def test_every_mark_names_an_operation_that_is_served() -> None:
    assert sorted(MARKED - served()) == []


def test_the_documents_were_taken_apart_completely() -> None:
    counts = {name: sum(one.document == name for one in operations().values()) for name in ("S0", "S1")}
    assert (len(operations()), counts) == (92, {"S0": 15, "S1": 15})


def test_the_page_was_written_since_the_routes_changed() -> None:
    text = (ROOT / "COMPATIBILITY.md").read_text()
    said = dict(re.findall(r"^\| (S\d-\d\d) \| .*? \| (\w+) \|", text, re.MULTILINE))
    now = {name: "served" if name in served() else "planned" for name in operations()}
    assert said == now, "run `make compatibility`"


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_writes_what_it_saw(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_run.py").write_text(RUN)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = operation\n")
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.contracts.compatibility"]
    command += ["-n", processes, "--compatibility", "page.md", "test_run.py"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "| S0-01 | `GET /health` | served | `test_run.py::test_that_passes` |" in page
    assert "| S0-02 | `GET /ready` | failing | `test_run.py::test_that_passes` |" in page
    assert re.search(r"\| S0-03 \| `GET /live` \| untested \|  \|", page)
    assert re.search(r"\| S2-01 \| `GET /api/v1/auth/authorize` \| (planned|untested) \|", page)
