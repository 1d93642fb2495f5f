"""A simulation by Flower on Ray comes to what the one in process comes to, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from tests.flower.environment import HOW, ROOT, flower_python, wait_for
from tg_workbench.errors import InvalidBatch, Refused
from tg_workbench.sdk.device import Rows, Simulated, SimulatedRound, simulate

pytestmark = [pytest.mark.skipif(flower_python() is None, reason=HOW), pytest.mark.timeout(600)]
FLOWER: dict[str, Any] = {"backend": "flower", "flower_python": flower_python()}
ASKED: dict[str, Any] = {
    "architecture": "mlp",
    "learning_rate": 0.2,
    "batch_size": 16,
    "epochs": 2,
    "seed": 3,
}


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a process of the simulation nor a folder, whatever came of it."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as place:  # short: Ray puts sockets below it
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield
        wait_for(lambda: not list(Path(place).iterdir()))
        wait_for(lambda: not processes_of(place))


@pytest.fixture(scope="module")
def digits() -> tuple[list[Rows], Rows]:
    """Eight devices with different numbers of rows, and rows to measure on."""
    features, targets = load_digits(return_X_y=True)
    features, targets = (features / 16).astype(np.float32), targets.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(targets))
    parts = np.split(order[400:], [300, 500, 650, 800, 900, 1000, 1011])
    rows = [{"features": features[part], "targets": targets[part]} for part in [order[:400], *parts]]
    return list(rows[1:]), rows[0]


def processes_of(place: str) -> list[int]:
    """The processes that have to do with a folder: Flower, Ray's own, and its workers."""
    found = []
    for each in psutil.process_iter():
        try:
            is_one = place in " ".join(each.cmdline()) or each.environ().get("HOME", "").startswith(place)
            if is_one and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
        except psutil.Error:
            continue
    return found


def both(digits: tuple[list[Rows], Rows], **asked: Any) -> tuple[Simulated, Simulated]:
    """The same simulation in process, and by Flower."""
    devices, test = digits
    more = {"evaluation": test, **ASKED, **asked}
    return simulate(devices, **more), simulate(devices, **more, **FLOWER)


def assert_alike(ours: Simulated, theirs: Simulated) -> None:
    """But for rounding."""
    for name, array in ours.parameters.items():
        np.testing.assert_allclose(theirs.parameters[name], array, atol=1e-5)
    np.testing.assert_allclose(theirs.loss, ours.loss, atol=1e-5)
    assert [each.completed for each in theirs.history] == [each.completed for each in ours.history]
    assert [each.devices for each in theirs.history] == [each.devices for each in ours.history]
    assert [each.dropped for each in theirs.history] == [each.dropped for each in ours.history]


def test_fedavg_by_flower_on_ray_is_fedavg_in_process(digits: tuple[list[Rows], Rows]) -> None:
    ours, theirs = both(digits, rounds=4)
    assert_alike(ours, theirs)
    for mine, other in zip(ours.accuracy, theirs.accuracy, strict=True):
        assert other == pytest.approx(mine, abs=1 / 400 + 1e-9), "at most one of the rows, by rounding"
    assert theirs.loss[-1] < theirs.loss[0] / 1.5


def test_devices_are_drawn_and_drop_out_as_in_process(digits: tuple[list[Rows], Rows]) -> None:
    ours, theirs = both(digits, rounds=6, fraction=0.5, drop_outs=0.4, quorum=2)
    assert_alike(ours, theirs)
    assert {each.completed for each in ours.history} == {True, False}


def test_fedprox_has_devices_stay_near_as_ours_does_and_the_same_seed_gives_the_same_bits(
    digits: tuple[list[Rows], Rows],
) -> None:
    devices, test = digits
    asked: dict[str, Any] = {"evaluation": test, "rounds": 2, **ASKED}
    ours = simulate(devices, strategy="fedprox", strategy_options={"proximal": 0.5}, **asked)
    options = {"proximal_mu": 0.5}
    theirs, again = (
        simulate(devices, strategy="flower:FedProx", strategy_options=options, **asked, **FLOWER)
        for _ in range(2)
    )
    assert_alike(ours, theirs)
    assert theirs.history == again.history
    for name, array in theirs.parameters.items():
        assert array.tobytes() == again.parameters[name].tobytes()


def test_a_strategy_remembers_and_each_round_is_told_in_order(digits: tuple[list[Rows], Rows]) -> None:
    devices, test = digits
    heard: list[SimulatedRound] = []
    ours = simulate(
        devices,
        evaluation=test,
        rounds=3,
        strategy="fedavgm",
        strategy_options={"momentum": 0.9, "server_learning_rate": 0.5},
        **ASKED,
    )
    theirs = simulate(
        devices,
        evaluation=test,
        rounds=3,
        strategy="flower:FedAvgM",
        strategy_options={"server_momentum": 0.9, "server_learning_rate": 0.5},
        on_round=heard.append,
        **ASKED,
        **FLOWER,
    )
    assert_alike(ours, theirs)
    assert tuple(heard) == theirs.history
    assert [each.number for each in heard] == [1, 2, 3]


def test_what_runs_away_is_said_in_the_words_of_the_simulation_in_process() -> None:
    rows = {"features": np.full((8, 2), 1e18, np.float32), "targets": np.arange(8.0, dtype=np.float32)}
    with pytest.raises(InvalidBatch, match="a device's update is not finite: lower the learning rate"):
        simulate([rows, rows], "linear", rounds=20, learning_rate=100.0, **FLOWER)


def test_what_flower_makes_no_model_of_is_refused_with_the_reason(digits: tuple[list[Rows], Rows]) -> None:
    options = {"num_malicious_nodes": 5}
    with pytest.raises(Refused, match="it made no model of these updates"):
        simulate(digits[0][:3], strategy="flower:Bulyan", strategy_options=options, rounds=1, **FLOWER)


def test_flower_that_dies_is_an_error_with_its_last_words(digits: tuple[list[Rows], Rows]) -> None:
    def kill(_: SimulatedRound) -> None:
        os.kill(min(processes_of(tempfile.gettempdir())), signal.SIGKILL)

    with pytest.raises(Refused, match=r"Flower's process is gone; its last words: (?s:.){10,2000}$"):
        simulate(digits[0], rounds=3, on_round=kill, **FLOWER)


def test_an_actor_that_dies_ends_it_and_no_device_is_left_out_in_silence(
    digits: tuple[list[Rows], Rows],
) -> None:
    def kill(_: SimulatedRound) -> None:
        for pid in processes_of(tempfile.gettempdir()):
            if "ClientAppActor" in psutil.Process(pid).cmdline()[0]:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(Refused, match=r"Flower could not .*Actor"):
        simulate(digits[0], rounds=3, on_round=kill, **FLOWER)


def test_ray_listens_to_this_machine_alone(digits: tuple[list[Rows], Rows]) -> None:
    seen: list[Any] = []

    def look(_: SimulatedRound) -> None:
        place = tempfile.gettempdir()
        for pid in processes_of(place):
            seen.extend(
                each for each in psutil.Process(pid).net_connections("inet") if each.status == "LISTEN"
            )
        folders = list(Path(place).iterdir())
        assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700]

    simulate(digits[0], rounds=1, on_round=look, **FLOWER)
    assert seen
    assert {each.laddr.ip for each in seen} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_whoever_simulates_is_stopped(blow: signal.Signals) -> None:
    script = """if True:
        import numpy as np
        from tg_workbench.sdk.device import simulate
        rows = {"features": np.eye(8, dtype=np.float32), "targets": np.arange(8)}
        simulate([rows] * 3, rounds=10_000, backend="flower", on_round=lambda _: print("done", flush=True))
    """
    environment = {
        **os.environ,
        "TG_FLOWER_PYTHON": str(flower_python()),
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == b"done\n"
        assert processes_of(tempfile.gettempdir())
        runner.send_signal(blow)
        runner.wait(timeout=60)
