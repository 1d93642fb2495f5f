"""Nine of our strategies and Flower's get the same updates for five rounds, and come to the same models.

Flower gets them in float64, so that the difference is our rounding alone. Three of its choices are set here,
not taken over: its second moments begin with 0 (the paper's: τ²), its Adam counts rounds from 2 (Kingma and
Ba: from 1), and its MultiKrum weights by samples (the paper's does not; here all devices have as many).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.flower.environment import HOW, flower_python, run_flower
from tg_workbench.federation.strategies import Outcome, State, Update, named

pytestmark = pytest.mark.skipif(flower_python() is None, reason=HOW)
ROUNDS, DEVICES, SIZE = 5, 11, 2_000
ZEROS = np.zeros(SIZE, np.float32)
RATES = {"server_learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-2}
THEIR_RATES = {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], State]] = {
    "fedavg": ({}, {}, {}),
    "fedprox": ({"proximal": 0.1}, {"proximal_mu": 0.1}, {}),
    "fedavgm": (
        {"momentum": 0.9, "server_learning_rate": 0.5},
        {"server_momentum": 0.9, "server_learning_rate": 0.5},
        {},
    ),
    "fedadam": ({**RATES, "bias_correction": True}, THEIR_RATES, {"second_moment": ZEROS, "steps": 1.0}),
    "fedyogi": (RATES, THEIR_RATES, {"second_moment": ZEROS}),
    "fedadagrad": (
        {"server_learning_rate": 0.1, "tau": 1e-2},
        {"eta": 0.1, "tau": 1e-2},
        {"second_moment": ZEROS},
    ),
    "median": ({}, {}, {}),
    "trimmed-mean": ({"cut": 0.2}, {"beta": 0.2}, {}),
    "multi-krum": (
        {"malicious": 2, "selected": 4},
        {"num_malicious_nodes": 2, "num_nodes_to_select": 4},
        {},
    ),
}
"""Our options, Flower's options, and the state that ours begins with."""


@pytest.mark.parametrize("name", CASES)
def test_five_rounds_lead_to_flowers_model(name: str, tmp_path: Path) -> None:
    ours, theirs, state = CASES[name]
    rng = np.random.default_rng(20)
    start = rng.normal(size=SIZE).astype(np.float32)
    deltas = rng.normal(scale=0.1, size=(ROUNDS, DEVICES, SIZE)).astype(np.float32)
    samples = rng.integers(1, 500, DEVICES) if name != "multi-krum" else np.full(DEVICES, 50)
    given, answer = tmp_path / "given.npz", tmp_path / "answer.npz"
    np.savez(given, parameters=start.astype(np.float64), deltas=deltas.astype(np.float64), samples=samples)
    run_flower("equal", name, json.dumps(theirs), str(given), str(answer))
    expected = np.load(answer, allow_pickle=False)["after"]

    outcome = Outcome(start, state)
    for number in range(ROUNDS):
        aggregation = named(name, **ours).begin(outcome.parameters, outcome.state)
        for delta, count in zip(deltas[number], samples, strict=True):
            aggregation.add(Update(delta, float(count)))
        outcome = aggregation.finish()
        np.testing.assert_allclose(outcome.parameters, expected[number], rtol=1e-6, atol=1e-6)
    assert np.abs(expected[-1] - start).max() > 0.01


def test_flower_is_the_pinned_one() -> None:
    pins = (Path(__file__).parent / "requirements.txt").read_text().splitlines()
    assert f"flwr=={run_flower('version').strip()}" in pins
