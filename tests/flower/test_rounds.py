"""Flower's strategies over our devices: what Flower would come to, also when it is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.federation.conftest import Fleet, rows_of
from tests.flower.environment import HOW, flower_python, run_flower, wait_for
from tests.workbench_server import WorkbenchServer
from tg_workbench.errors import Refused
from tg_workbench.federation.flower import PREFIX, flower_names, strategy_named
from tg_workbench.federation.flower.catalogue import STRATEGIES
from tg_workbench.federation.flower.process import SCRIPT
from tg_workbench.federation.strategies import Outcome, Update
from tg_workbench.sdk.device import Device

pytestmark = pytest.mark.skipif(flower_python() is None, reason=HOW)
ROUNDS, DEVICES, SIZE = 3, 7, 500
OPTIONS: dict[str, dict[str, Any]] = {
    "Bulyan": {"num_malicious_nodes": 1},
    "FedAdam": {"eta": 0.05, "beta_1": 0.8},
    "FedAvgM": {"server_momentum": 0.9, "server_learning_rate": 0.5},
    "FedProx": {"proximal_mu": 0.1},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_nodes": 2},
    "MultiKrum": {"num_malicious_nodes": 2, "num_nodes_to_select": 3},
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the worker of a round reads."""
    monkeypatch.setenv("TG_FLOWER_PYTHON", str(flower_python()))
    monkeypatch.setenv("TG_HOME", str(tmp_path))


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("name", flower_names())
def test_rounds_apart_lead_where_one_run_of_flower_leads(name: str, tmp_path: Path) -> None:
    theirs = name.removeprefix(PREFIX)
    options = OPTIONS.get(theirs, {})
    rng = np.random.default_rng(8)
    start = rng.normal(size=SIZE).astype(np.float32)
    deltas = rng.normal(scale=0.1, size=(ROUNDS, DEVICES, SIZE)).astype(np.float32)
    samples = rng.integers(1, 500, DEVICES)
    given, answer = tmp_path / "given.npz", tmp_path / "answer.npz"
    np.savez(given, parameters=start, deltas=deltas, samples=samples)
    run_flower("equal", theirs, json.dumps(options), str(given), str(answer))
    expected = np.load(answer, allow_pickle=False)["after"]

    outcome = Outcome(start, {})
    for number in range(ROUNDS):
        aggregation = strategy_named(name, **options).begin(outcome.parameters, outcome.state)
        for delta, count in zip(deltas[number], samples, strict=True):
            aggregation.add(Update(delta, float(count)))
        outcome = aggregation.finish()
        np.testing.assert_allclose(outcome.parameters, expected[number], rtol=1e-5, atol=1e-5)


def test_flower_knows_every_option_that_is_offered() -> None:
    known = json.loads(run_flower("options", ",".join(STRATEGIES)))
    assert {name: sorted(set(options) - set(known[name])) for name, options in STRATEGIES.items()} == {
        name: [] for name in STRATEGIES
    }


@pytest.mark.usefixtures("settings")
def test_what_flower_makes_no_model_of_is_refused_with_a_reason() -> None:
    aggregation = strategy_named("flower:Bulyan", num_malicious_nodes=5).begin(np.zeros(4, np.float32), {})
    for _ in range(3):
        aggregation.add(Update(np.full(4, 0.1234, np.float32), 1.0))
    with pytest.raises(Refused, match="Flower could not aggregate: it made no model"):
        aggregation.finish()


def in_flowers_python(body: str) -> str:
    """What a program prints that has our aggregator as `aggregator`, run by Flower's Python."""
    load = f"""
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("aggregator", {str(SCRIPT)!r})
aggregator = sys.modules["aggregator"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(aggregator)
update = (np.ones(2, np.float32), 3.0)
asked = aggregator.Asked("FedAvg", {{}}, 1, np.zeros(2, np.float32), {{}}, {{}}, [update, update])
"""
    quiet = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0"}
    done = subprocess.run(
        [str(flower_python()), "-I", "-c", load + body], env=quiet, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_who_has_not_handed_in_answers_with_an_error() -> None:
    body = """
aggregator.TaskIdentity.run_id = aggregator.TaskIdentity.node_id = aggregator.TaskIdentity.task_id = 1
message = lambda node, kind: aggregator.Message(aggregator.RecordDict(), node, kind)
sent = [message(1, "train"), message(3, "train"), message(2, "evaluate")]
print([reply.has_error() for reply in aggregator.Devices(asked).send_and_receive(sent)])
"""
    assert in_flowers_python(body) == "[False, True, True]"


def test_a_strategy_that_remembers_more_than_numbers_is_refused() -> None:
    body = """
class Diary(aggregator.strategy.FedAvg):
    def aggregate_train(self, server_round, replies):
        self.rounds = getattr(self, "rounds", 0) + 1
        self.diary = {"round": server_round}
        return super().aggregate_train(server_round, replies)
aggregator.strategy.FedAvg = Diary
try:
    aggregator.aggregated(asked)
except aggregator.Refused as refusal:
    print(refusal)
"""
    assert in_flowers_python(body) == "it remembers diary, which is neither a number nor parameters"


def test_flower_goes_when_whoever_runs_the_round_is_killed(tmp_path: Path) -> None:
    script = """if True:
        import numpy as np, time
        from tg_workbench.federation.flower import strategy_named
        from tg_workbench.federation.strategies import Update
        aggregation = strategy_named("flower:FedAvg").begin(np.zeros(4, np.float32), {})
        aggregation.add(Update(np.ones(4, np.float32), 1.0))
        print(aggregation._process.pid, flush=True)
        time.sleep(60)
    """
    environment = {**os.environ, "TG_FLOWER_PYTHON": str(flower_python()), "TG_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        assert psutil.pid_exists(pid)
        runner.kill()
    wait_for(lambda: not is_alive(pid))


@pytest.fixture(scope="module")
def flower_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A workbench that knows where Flower is, and two devices."""
    server = WorkbenchServer(TG_FLOWER_PYTHON=str(flower_python()))
    try:
        with server.client() as http:
            fleet = Fleet(server, http, tmp_path_factory.mktemp("devices"), [])
            fleet.enroll()
            fleet.enroll()
            yield fleet
            for device in fleet.made:
                device.close()
    finally:
        server.stop()


def learned(fleet: Fleet, rounds: int, **asked: Any) -> dict[str, Any]:
    """A campaign of two devices, once it is over."""
    campaign = fleet.start(rounds=rounds, **asked)["campaign_id"]

    def learn(device: Device, seed: int) -> None:
        device.learn(rows_of(seed), rounds=rounds, idle=30.0)

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(learn, device, seed) for seed, device in enumerate(fleet.made)]
        for each in done:
            each.result(timeout=180)
    return fleet.campaign_over(campaign)


def test_devices_learn_by_one_of_flowers_strategies(flower_fleet: Fleet) -> None:
    asked = {"strategy": "flower:FedYogi", "strategy_options": {"eta": 0.3, "tau": 0.1}}
    campaign = learned(flower_fleet, 3, **asked)
    assert (campaign["status"], campaign["rounds_done"]) == ("completed", 3), campaign
    assert len({each["model_digest"] for each in campaign["history"]}) == 3
    assert not processes()


@pytest.mark.parametrize("victim", ["flower", "its worker"])
def test_a_round_is_done_again_when_someone_in_it_is_killed(flower_fleet: Fleet, victim: str) -> None:
    killed: list[int] = []

    def kill_the_first() -> None:
        wait_for(lambda: bool(processes()), seconds=120.0)
        first = processes()[0]
        killed.extend([first, psutil.Process(first).ppid()])
        os.kill(killed[0 if victim == "flower" else 1], signal.SIGKILL)

    hunter = threading.Thread(target=kill_the_first)
    hunter.start()
    campaign = learned(flower_fleet, 2, strategy="flower:FedAvgM", strategy_options={"server_momentum": 0.5})
    hunter.join()
    assert len(killed) == 2
    assert not any(is_alive(pid) for pid in killed)
    assert (campaign["status"], campaign["rounds_done"]) == ("completed", 2), campaign


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"strategy": "flower:FedNone"}, "flower:FedYogi"),
        ({"strategy": "flower:FedYogi", "strategy_options": {"eta": -1}}, "eta"),
    ],
)
def test_what_flower_does_not_have_is_refused_before_any_device_learns(
    flower_fleet: Fleet, asked: dict[str, Any], said: str
) -> None:
    body = {"model_config": {"architecture": "logistic", "input_shape": [4], "output_size": 3}, **asked}
    answer = flower_fleet.http.post("/api/v1/fl/rounds", json=body)
    assert answer.status_code in (400, 422)
    assert said in answer.text


def processes() -> list[int]:
    """Every process in which Flower aggregates."""
    found = []
    for each in psutil.process_iter(["cmdline"]):
        if str(SCRIPT) in (each.info["cmdline"] or []) and is_alive(each.pid):
            found.append(each.pid)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
