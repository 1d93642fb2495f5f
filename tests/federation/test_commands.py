"""The command line of a device: let in, learning, looked at, as a program of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.contracts.test_process import answers, serving
from tests.federation.conftest import CLASSES, SIDE, Fleet, rows_of
from tests.ports import free_port
from tg_workbench import Workbench
from tg_workbench.device.commands import ADDRESSES

KEY = "tgw-a-key-for-the-server-of-this-test-alone"


def device(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """`tg-workbench device …`, to its end; nothing but the command line says where the workbench is."""
    command = [sys.executable, "-m", "tg_workbench", "device", *arguments]
    own = {name: value for name, value in os.environ.items() if name not in ADDRESSES}
    return subprocess.run(
        command, input=typed, env=own, capture_output=True, text=True, timeout=120, check=False
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


def test_keys_that_are_due_are_changed_and_said_to_be(fleet: Fleet, ward: Path) -> None:
    due = {"device_id": device("status", "--folder", str(ward)).stdout.split()[1]}
    assert fleet.http.post("/api/v1/security/keys/rotate", json=due).status_code == 200
    first, second = (device("status", "--folder", str(ward)).stdout for _ in range(2))
    assert "were due for new ones: they are changed now" in first
    assert ", good until " in second


def test_a_device_learns_from_a_file_and_says_what_it_did(fleet: Fleet, ward: Path, tmp_path: Path) -> None:
    rows = rows_of(3)
    np.savez(tmp_path / "rows.npz", features=rows["features"], targets=rows["targets"])
    started = fleet.start(participant_criteria={"min_participants": 1}, rounds=2)
    done = device("run", "--folder", str(ward), "--rows", str(tmp_path / "rows.npz"), "--rounds", "2")
    assert done.returncode == 0, done.stderr
    first, *told, last = done.stdout.splitlines()
    ours = device("status", "--folder", str(ward)).stdout.split()[1]
    where = f"the workbench at {fleet.server.socket}"
    assert first == f"{ours} of local has 40 rows, and waits for rounds of {where}"
    assert [line.partition(":")[0] for line in told] == [
        line
        for number in (1, 2)
        for line in (
            f"round {number} of campaign {started['campaign_id']} is offered",
            f"round {number} trains",
            f"round {number} accepted",
        )
    ]
    assert last == "It took part in 2 rounds."
    assert fleet.campaign_over(started["campaign_id"])["status"] == "completed"


def test_a_device_that_waits_for_ever_says_why_an_update_was_rejected_and_goes_on(
    fleet: Fleet, ward: Path, tmp_path: Path
) -> None:
    rows = rows_of(3)
    np.savez(tmp_path / "rows.npz", features=rows["features"] * 1e14, targets=rows["targets"])
    asked = ("run", "--folder", str(ward), "--rows", str(tmp_path / "rows.npz"), "--rounds", "1")
    alone = {"participant_criteria": {"min_participants": 1}}
    command = [sys.executable, "-m", "tg_workbench", "device", *asked, "--idle", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for _ in range(2):
            assert fleet.campaign_over(fleet.start(**alone)["campaign_id"])["status"] == "failed"
            while "rejected" not in (line := running.stdout.readline()):
                assert line, running.communicate()
            assert "this update is longer than 1e+12" in line
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (130, "")
    once = fleet.start(**alone)
    done = device(*asked)  # who waits for so long and no longer is told by how it ends
    assert done.returncode == 2
    assert "this update is longer than 1e+12" in done.stderr
    fleet.campaign_over(once["campaign_id"])


def test_a_device_with_terms_says_which_rounds_it_stays_away_from(
    fleet: Fleet, ward: Path, tmp_path: Path
) -> None:
    own = rows_of(3)
    np.savez(tmp_path / "rows.npz", features=own["features"], targets=own["targets"])
    started = fleet.start(participant_criteria={"min_participants": 1})
    fleet.recruiting(started["id"])
    rows = ("--rows", str(tmp_path / "rows.npz"), "--idle", "2")
    done = device("run", "--folder", str(ward), *rows, "--only-masked", "--least-devices", "5")
    assert done.returncode == 0, done.stderr
    *_, away, last = done.stdout.splitlines()
    assert away == "round 1 is without secure aggregation, which this device's terms forbid"
    assert last == "It took part in 0 rounds."
    assert fleet.parts(started["id"]) == {}
    few = device("run", "--folder", str(ward), *rows, "--least-devices", "2")
    assert (few.returncode, few.stdout) == (2, "")
    assert "least_devices must be 3 or more" in few.stderr
    assert device("run", "--folder", str(ward), *rows, "--rounds", "1").returncode == 0  # else it stays


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
        (
            ["enroll", "--token", "tok_wrong", "--organization", "local", "--url", "http://127.0.0.1:1"],
            "does not answer",
        ),
        (["enroll", "--token", "tok_wrong", "--organization", "local"], "say with --url"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = device(*arguments, "--folder", str(tmp_path / "empty"))
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.startswith("tg-workbench: ")
    assert done.stderr.count("\n") == 1
    assert "tok_wrong" not in done.stderr


def test_a_folder_that_cannot_be_written_uses_no_token_up(fleet: Fleet, tmp_path: Path) -> None:
    token = fleet.token()
    asked = ("enroll", "--token", token, "--organization", "local", "--socket", str(fleet.server.socket))
    (tmp_path / "file").touch()
    refused = device(*asked, "--folder", str(tmp_path / "file" / "ward"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Not a directory" in refused.stderr
    done = device(*asked, "--folder", str(tmp_path / "ward"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "ward").iterdir()] == ["device.json"]


def test_a_device_that_waits_for_ever_waits_for_the_workbench_too(tmp_path: Path) -> None:
    port = str(free_port())
    url, folder, rows = f"http://127.0.0.1:{port}", str(tmp_path / "ward"), rows_of(3)
    np.savez(tmp_path / "rows.npz", features=rows["features"], targets=rows["targets"])
    with (
        serving(tmp_path, PORT=port, TG_API_KEY=KEY),
        httpx.Client(base_url=url) as http,
        Workbench(url, KEY) as workbench,
    ):
        answers(http, "/ready", 200)
        token = workbench.devices.enrollment_token().enrollment_token or ""
        done = device("enroll", "--token", token, "--organization", "local", "--url", url, "--folder", folder)
        assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "tg_workbench", "device", "run", "--folder", folder]
    asked = ["--rows", str(tmp_path / "rows.npz"), "--idle", "0", "--rounds", "1"]
    with subprocess.Popen(
        [*command, *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert "does not answer" in waiting.stderr.readline()
        with serving(tmp_path, PORT=port, TG_API_KEY=KEY), Workbench(url, KEY) as workbench:
            workbench.federation.start(
                "logistic", input_shape=[SIDE], output_size=CLASSES, min_participants=1
            )
            told, errors = waiting.communicate(timeout=120)
    assert (waiting.returncode, errors) == (0, ""), told
    back, waits, *_, last = told.splitlines()
    assert (back, last) == ("the workbench answers again", "It took part in 1 round.")
    assert waits.endswith(f"has 40 rows, and waits for rounds of the workbench at {url}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--rounds", "0"], "--rounds: give a whole number, 1 or more"),
        (["--rounds", "-1"], "--rounds: give a whole number, 1 or more"),
        (["--rounds", "1.5"], "--rounds: give a whole number, 1 or more"),
        (["--idle", "-1"], "--idle: give seconds, 0 or more; 0 is to wait for ever"),
        (["--idle", "nan"], "--idle: give seconds, 0 or more"),
        (["--idle", "soon"], "--idle: give seconds, 0 or more"),
    ],
    ids=" ".join,
)
def test_a_device_is_not_told_to_do_less_than_nothing(tmp_path: Path, wrong: list[str], said: str) -> None:
    done = device("run", "--folder", str(tmp_path), "--rows", "rows.npz", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_device_that_waits_is_stopped_from_the_keyboard(ward: Path, tmp_path: Path) -> None:
    rows = rows_of(3)
    np.savez(tmp_path / "rows.npz", features=rows["features"], targets=rows["targets"])
    file = str(tmp_path / "rows.npz")
    command = [sys.executable, "-u", "-m", "tg_workbench", "device", "run", "--folder", str(ward)]
    with subprocess.Popen(
        [*command, "--rows", file, "--idle", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout is not None
        assert "waits for rounds" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=60)
    assert (waiting.returncode, errors) == (130, "")
