"""Would the tests notice? Classic bugs, planted one at a time; the test named for each must fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tg_workbench
from tests.claims.mutations.planted import MUTATIONS

FOLDER = Path(__file__).parent / "mutations"
FAILED = 1  # pytest's status: tests ran, and some failed
MOST_SECONDS = 800  # on a busy machine: every bug has a process of its own
pytestmark = pytest.mark.timeout(MOST_SECONDS + 60)


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """How the test of each planted bug ended."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "runner.py")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {result["name"]: result for result in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_sits_in_one_place(name: str) -> None:
    mutation = MUTATIONS[name]
    path = mutation.module.removeprefix("tg_workbench.").replace(".", "/") + ".py"
    source = (Path(tg_workbench.__file__).parent / path).read_text()
    assert source.count(mutation.right) == 1


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_is_caught(name: str, runs: dict[str, Any]) -> None:
    run = runs[name]
    assert run["status"] == FAILED, run["said"]
    assert "1 failed" in run["said"], run["said"]
