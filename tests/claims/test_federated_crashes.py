"""Whoever follows a worker that was killed in a round charges nothing twice, and draws the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from tg_workbench.datasets import LedgerEvent
from tg_workbench.federation.fleets.tables import RoundCharge
from tg_workbench.storage import Database

KILLED = -9


def run(folder: Path, where: str) -> int:
    """A worker that dies at a place, or nowhere."""
    command = [sys.executable, "-m", "tests.claims.federated_round", str(folder), where]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode in (0, KILLED), done.stderr
    return done.returncode


def stored(folder: Path) -> tuple[int, list[RoundCharge]]:
    """How many releases were charged, and what is known of the round."""
    database = Database(f"sqlite:///{folder}/here.db")
    with database.read() as session:
        found = len(session.exec(select(LedgerEvent)).all()), list(session.exec(select(RoundCharge)))
    database.close()
    return found


@pytest.mark.parametrize(
    ("where", "charged"),
    [
        ("before the charge is stored", 0),
        ("after the charge", 1),
        ("after the noise is drawn", 1),
        ("before the model is stored", 1),
    ],
)
def test_a_killed_round_is_charged_once_and_comes_out_the_same(
    tmp_path: Path, where: str, charged: int
) -> None:
    assert run(tmp_path, where) == KILLED
    assert stored(tmp_path)[0] == charged
    assert run(tmp_path, "nowhere") == 0
    count, (row,) = stored(tmp_path)
    assert (count, row.attempt, row.sealed) == (1, 0, None)
    assert row.released_at is not None
    model = np.load(tmp_path / "model.npy")
    drawn = tmp_path / f"drawn {where}.npy"
    if drawn.exists():
        assert np.array_equal(np.load(drawn), model)
