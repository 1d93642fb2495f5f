from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.federation.conftest import CLASSES, SIDE, rows_of
from tg_workbench.device.flock import Flock, Pull
from tg_workbench.device.in_process import seed_of
from tg_workbench.device.learning import LocalTrainer, Task
from tg_workbench.device.simulation import SimulatedRound
from tg_workbench.engine.architectures import build
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidBatch, InvalidField, InvalidRequest
from tg_workbench.federation.strategies import Update, named, names
from tg_workbench.federation.updates import Layout
from tg_workbench.sdk.device import Simulation, simulate

COUNTS = (40, 7, 16, 1)
DEVICES = [rows_of(seed + 1, count) for seed, count in enumerate(COUNTS)]
TEST = rows_of(99, 200)


def a_task(architecture: str, shape: Architecture, **more: Any) -> Task:
    module = build(architecture, shape, Path()).module
    layout = Layout.of({name: tuple(p.shape) for name, p in module.named_parameters()})
    asked = {"learning_rate": 0.1, "batch_size": 8, "epochs": 2, **more}
    return Task(architecture=architecture, shape=shape, layout=layout, **asked)


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("logistic", {}),
        ("mlp", {"proximal": 0.5}),
        ("mlp", {"control": True}),
        ("cnn", {}),
        ("tempered-cnn", {}),
    ],
)
def test_devices_side_by_side_learn_what_each_learns_alone(architecture: str, more: dict[str, Any]) -> None:
    shape = Architecture((SIDE,), CLASSES)
    task = a_task(architecture, shape, **more)
    generator = np.random.default_rng(1)
    start, server, *own = generator.normal(scale=0.1, size=(2 + len(DEVICES), task.layout.size)).astype(
        np.float32
    )
    is_controlled = task.control
    pull = Pull(server, np.stack(own)) if is_controlled else None
    flown = Flock(task, DEVICES).learn(range(len(DEVICES)), [5, 6, 7, 8], start, pull)
    for n, rows in enumerate(DEVICES):
        alone = LocalTrainer(replace(task, seed=5 + n))
        learned = alone.learn(rows, start, server, own[n]) if is_controlled else alone.learn(rows, start)
        np.testing.assert_allclose(flown.deltas[n], learned.delta, atol=2e-6)
        if is_controlled:
            assert flown.control_deltas is not None
            assert learned.control_delta is not None
            np.testing.assert_allclose(flown.control_deltas[n], learned.control_delta, atol=2e-4)


def test_a_flock_too_large_for_memory_flies_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    task = a_task("logistic", Architecture((SIDE,), CLASSES))
    start = np.zeros(task.layout.size, np.float32)
    whole = Flock(task, DEVICES).learn(range(4), range(4), start).deltas
    monkeypatch.setattr("tg_workbench.device.flock.MOST_NUMBERS", 64)
    np.testing.assert_allclose(Flock(task, DEVICES).learn(range(4), range(4), start).deltas, whole, atol=1e-6)


def test_numbers_are_learned_as_well_as_classes() -> None:
    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    rows = {"features": features, "targets": features @ np.array([1.0, -2.0, 0.5], np.float32)}
    found = simulate([rows, rows], "linear", rounds=30, learning_rate=0.1)
    assert found.loss[-1] < 0.01 < found.loss[0]
    assert found.accuracy == [None] * 30


@pytest.mark.parametrize("strategy", names())
def test_every_strategy_learns(strategy: str) -> None:
    devices = [rows_of(seed) for seed in range(8)]
    found = simulate(devices, evaluation=TEST, strategy=strategy, rounds=15, learning_rate=0.5, batch_size=8)
    assert len(found.history) == 15
    assert all(each.completed and each.devices == 8 and each.convergence for each in found.history)
    assert found.loss[-1] < found.loss[0]
    assert found.rounds_to(0.7) is not None
    assert found.rounds_to(1.1) is None


def test_a_round_is_the_strategys_own_round() -> None:
    found = simulate(DEVICES, rounds=1, learning_rate=0.1, batch_size=8, epochs=2, seed=4)
    before = simulate(DEVICES, rounds=1, quorum=99, seed=4)
    task = a_task("logistic", Architecture((SIDE,), CLASSES))
    start = task.layout.vector(before.parameters)
    aggregation = named("fedavg").begin(start, {})
    for n, rows in enumerate(DEVICES):
        learned = LocalTrainer(replace(task, seed=seed_of(4, 1, n))).learn(rows, start)
        aggregation.add(Update(learned.delta, float(len(rows["targets"]))))
    expected = task.layout.arrays(aggregation.finish().parameters)
    for name, array in found.parameters.items():
        np.testing.assert_allclose(array, expected[name], atol=2e-6)


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    asked: dict[str, Any] = {"rounds": 4, "fraction": 0.5, "drop_outs": 0.3}
    first, again, other = (simulate(DEVICES, seed=seed, **asked) for seed in (1, 1, 2))
    assert first.history == again.history != other.history
    assert all(
        array.tobytes() == again.parameters[name].tobytes() for name, array in first.parameters.items()
    )


def test_devices_drop_out_and_a_round_with_too_few_leaves_the_model_alone() -> None:
    heard: list[SimulatedRound] = []
    devices = [rows_of(seed) for seed in range(10)]
    asked: dict[str, Any] = {"rounds": 30, "fraction": 0.5, "drop_outs": 0.4, "quorum": 3}
    found = simulate(devices, on_round=heard.append, **asked)
    assert tuple(heard) == found.history
    for each in found.history:
        left = 5 - each.dropped
        assert each.completed == (left >= 3)
        assert each.devices == (left if each.completed else 0)
        assert (each.convergence == 0.0) == (not each.completed)
    assert {each.completed for each in found.history} == {True, False}


def test_what_runs_away_is_said_and_not_returned() -> None:
    rows = {"features": np.full((8, 2), 1e18, np.float32), "targets": np.arange(8.0, dtype=np.float32)}
    with pytest.raises(InvalidRequest, match="not finite"):
        simulate([rows], "linear", rounds=20, learning_rate=100.0)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"strategy": "nobody"}, "strategy"),
        ({"strategy_options": {"nothing": 1}}, "strategy options"),
        ({"rounds": 0}, "rounds"),
        ({"fraction": 0.0}, "fraction"),
        ({"drop_outs": 1.0}, "drop_outs"),
        ({"quorum": 0}, "quorum"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField, match=field):
        Simulation(**wrong)


@pytest.mark.parametrize("devices", [[], [{"features": np.zeros((0, 2)), "targets": np.zeros(0, np.int64)}]])
def test_nobody_and_nothing_are_refused(devices: list[Any]) -> None:
    with pytest.raises((InvalidField, InvalidBatch)):
        simulate(devices)
