"""The command line of a device: let in, learning, looked at, as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.federation.conftest import CLASSES, SIDE, Fleet, rows_of


def device(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """`tg-workbench device …`, to its end."""
    command = [sys.executable, "-m", "tg_workbench", "device", *arguments]
    return subprocess.run(
        command, input=typed, env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def ward(fleet: Fleet) -> Path:
    """The folder of a device that was let in by hand."""
    folder, token = fleet.folder / "by hand", fleet.token()
    where = ("--socket", str(fleet.server.socket), "--folder", str(folder))
    done = device(
        "enroll", "--token", "-", "--organization", "local", "--name", "ward 7", *where, typed=f"{token}\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dev_")
    assert token not in done.stdout + done.stderr
    again = device("enroll", "--token", token, "--organization", "local", *where)
    assert (again.returncode, again.stdout) == (2, "")
    assert "a device lives there already" in again.stderr
    return folder


def test_a_device_says_how_it_stands(ward: Path) -> None:
    done = device("status", "--folder", str(ward))
    assert done.returncode == 0, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert told["organization"] == "local"
    assert told["status"] == "online"
    assert ", good until " in told["keys"]


def test_a_device_learns_from_a_file_and_says_what_it_did(fleet: Fleet, ward: Path, tmp_path: Path) -> None:
    rows = rows_of(3)
    np.savez(tmp_path / "rows.npz", features=rows["features"], targets=rows["targets"])
    started = fleet.start(participant_criteria={"min_participants": 1}, rounds=2)
    done = device("run", "--folder", str(ward), "--rows", str(tmp_path / "rows.npz"), "--rounds", "2")
    assert done.returncode == 0, done.stderr
    first, *rounds, last = done.stdout.splitlines()
    assert first.endswith("has 40 rows, and waits for rounds.")
    assert [line.split(":")[0] for line in rounds] == [
        line.split(":")[0] for line in rounds if line.startswith("round ")
    ]
    assert (len(rounds), last) == (2, "It took part in 2 rounds.")
    assert fleet.campaign_over(started["campaign_id"])["status"] == "completed"


def test_nothing_to_do_is_no_failure(ward: Path, tmp_path: Path) -> None:
    rows = rows_of(3, 5)
    columns = [f"x{number}" for number in range(SIDE)]
    lines = [",".join([*columns, "kind"])]
    for features, target in zip(rows["features"], rows["targets"], strict=True):
        lines.append(",".join([*map(str, features.tolist()), str(target)]))
    (tmp_path / "rows.csv").write_text("\n".join([*lines, ""]))
    assert rows["targets"].max() < CLASSES
    file = str(tmp_path / "rows.csv")
    done = device("run", "--folder", str(ward), "--rows", file, "--target", "kind", "--idle", "1")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "It took part in 0 rounds.")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status"], "no device was enrolled there"),
        (["run", "--rows", "none.npz"], "none.npz cannot be read"),
        (["enroll", "--token", "tok_wrong", "--organization", "local", "--url", "nowhere"], "http://nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = device(*arguments, "--folder", str(tmp_path / "empty"))
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.startswith("tg-workbench: ")
    assert done.stderr.count("\n") == 1
    assert "tok_wrong" not in done.stderr
