"""The rules that remember: momentum, Adagrad, Adam, Yogi, SCAFFOLD; and FedBuff, which forgets the stale."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.unit.federation.strategies.test_strategies import ran
from tg_workbench.errors import UpdateInvalid
from tg_workbench.federation.strategies import Outcome, Update, Vector, named

Moment = Callable[[np.ndarray, np.ndarray], np.ndarray]


def deltas(rounds: int = 6, size: int = 200) -> list[Vector]:
    rng = np.random.default_rng(5)
    return [rng.normal(scale=0.1, size=size).astype(np.float32) for _ in range(rounds)]


def after(name: str, steps: list[Vector], **options: object) -> Vector:
    outcome = Outcome(np.zeros_like(steps[0]), {})
    for delta in steps:
        outcome = ran(named(name, **options), outcome.parameters, outcome.state, [Update(delta, 5.0)])
    return outcome.parameters


def test_the_mean_is_weighted_by_samples() -> None:
    one, other = np.ones(3, np.float32), np.zeros(3, np.float32)
    found = ran(named("fedavg"), other, {}, [Update(one, 30.0), Update(other, 10.0)])
    assert found.parameters.tolist() == [0.75] * 3
    assert found.figures["samples"] == 40.0


def test_the_mean_of_a_thousand_devices_is_right_to_seven_digits() -> None:
    rng = np.random.default_rng(0)
    handed_in = [
        Update(rng.normal(size=50).astype(np.float32), float(rng.integers(1, 10**6))) for _ in range(1000)
    ]
    weights = np.array([update.weight for update in handed_in])
    exact = weights @ np.array([update.delta for update in handed_in], np.float64) / weights.sum()
    found = ran(named("fedavg"), np.zeros(50, np.float32), {}, handed_in).parameters
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_momentum_is_torchs_sgd_over_the_mean() -> None:
    parameter = torch.zeros(200, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.5, momentum=0.9)
    for delta in deltas():
        parameter.grad = -torch.from_numpy(delta)
        optimizer.step()
    found = after("fedavgm", deltas(), momentum=0.9, server_learning_rate=0.5)
    np.testing.assert_allclose(found, parameter.detach().numpy(), atol=1e-6)


def test_corrected_adam_is_torchs_but_for_where_the_second_moment_begins() -> None:
    parameter, tau = torch.zeros(200, dtype=torch.float64, requires_grad=True), 1e-8
    optimizer = torch.optim.Adam([parameter], lr=0.1, betas=(0.9, 0.99), eps=tau)
    for step, delta in enumerate(deltas(), start=1):
        optimizer.param_groups[0]["eps"] = tau / math.sqrt(1.0 - 0.99**step)  # torch corrects √v, then adds ε
        parameter.grad = -torch.from_numpy(delta).double()
        optimizer.step()
    found = after("fedadam", deltas(), server_learning_rate=0.1, tau=tau, bias_correction=True)
    np.testing.assert_allclose(found, parameter.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "beta_1", "second"),
    [
        ("fedadagrad", 0.0, lambda v, d: v + d**2),
        ("fedadam", 0.9, lambda v, d: 0.99 * v + 0.01 * d**2),
        ("fedyogi", 0.9, lambda v, d: v - 0.01 * d**2 * np.sign(v - d**2)),
    ],
)
def test_an_adaptive_rule_is_algorithm_2_of_its_paper(name: str, beta_1: float, second: Moment) -> None:
    x, m, v = np.zeros(200), np.zeros(200), np.full(200, 1e-6)
    for delta in deltas():
        d = delta.astype(np.float64)
        m, v = beta_1 * m + (1 - beta_1) * d, second(v, d)
        x = x + 0.05 * m / (np.sqrt(v) + 1e-3)
    np.testing.assert_allclose(after(name, deltas(), server_learning_rate=0.05, tau=1e-3), x, atol=1e-6)


def test_scaffold_moves_the_model_by_its_rate_and_the_control_by_the_part_that_came() -> None:
    ones = np.ones(3, np.float32)
    strategy = named("scaffold", server_learning_rate=0.5, population=8)
    handed_in = [Update(ones * n, 10.0 * n, control=ones) for n in (1, 3)]
    outcome = ran(strategy, np.zeros(3, np.float32), {"control": ones}, handed_in)
    assert outcome.parameters.tolist() == [0.5 * 2.0] * 3
    assert np.asarray(outcome.state["control"]).tolist() == [1.0 + 2 / 8] * 3


def test_scaffold_refuses_an_update_without_its_control_variate() -> None:
    with pytest.raises(UpdateInvalid, match="control variate"):
        ran(named("scaffold"), np.zeros(3, np.float32), {}, [Update(np.ones(3, np.float32), 1.0)])


def test_a_stale_update_counts_less_in_a_buffer_and_samples_do_not() -> None:
    ones = np.ones(3, np.float32)
    handed_in = [Update(ones, 1.0), Update(ones, 1e6, staleness=3)]
    outcome = ran(named("fedbuff", server_learning_rate=2.0), np.zeros(3, np.float32), {}, handed_in)
    assert outcome.parameters.tolist() == pytest.approx([2.0 * (1.0 + 1.0 / math.sqrt(4.0)) / 2.0] * 3)
    assert outcome.figures["stalest"] == 3.0


def test_only_fedprox_and_scaffold_ask_devices_for_something() -> None:
    assert named("fedprox", proximal=0.5).local.proximal == 0.5
    assert named("scaffold").local.control
    assert named("fedavg").local.proximal == 0.0
