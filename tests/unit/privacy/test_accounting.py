from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import GaussianStep, Odometer, epsilon, noise_multiplier

TERMS: dict[str, Any] = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10, "delta": 1e-5}


def test_nothing_done_costs_nothing() -> None:
    assert epsilon(**TERMS | {"steps": 0}) == 0.0
    assert epsilon(**TERMS | {"sample_rate": 0.0}) == 0.0
    assert Odometer(1e-5).epsilon({}) == 0.0


def test_no_noise_costs_everything() -> None:
    assert epsilon(**TERMS | {"noise_multiplier": 0.0}) == math.inf
    assert Odometer(1e-5).epsilon({GaussianStep(0.0, 0.1): 1}) == math.inf
    assert Odometer(1e-5).steps_left({}, GaussianStep(0.0, 0.1), cap=10.0) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"sample_rate": 1.1},
        {"sample_rate": math.nan},
        {"steps": -1},
        {"delta": 0.0},
        {"delta": 1.0},
        {"accountant": "gdp"},
        {"relation": "other"},
    ],
)
def test_terms_nobody_can_bound_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        epsilon(**TERMS | wrong)


@pytest.mark.parametrize(
    "wrong", [{"target_epsilon": 0.0}, {"target_epsilon": math.inf}, {"steps": 0}, {"sample_rate": 0.0}]
)
def test_noise_is_not_chosen_for_impossible_targets(wrong: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"target_epsilon": 1.0, "delta": 1e-5, "sample_rate": 0.1, "steps": 10}
    with pytest.raises(InvalidRequest):
        noise_multiplier(**wanted | wrong)


def test_rdp_refuses_to_bound_sampled_steps_under_replace_one() -> None:
    with pytest.raises(InvalidRequest, match="use pld"):
        epsilon(**TERMS, accountant="rdp", relation="replace_one")


def test_more_noise_fewer_records_or_fewer_steps_cost_less() -> None:
    whole = epsilon(**TERMS)
    assert epsilon(**TERMS | {"noise_multiplier": 2.0}) < whole
    assert epsilon(**TERMS | {"sample_rate": 0.05}) < whole
    assert epsilon(**TERMS | {"steps": 5}) < whole


def test_toy_noise_is_bounded_without_filling_the_memory() -> None:
    assert 1000 < epsilon(noise_multiplier=0.1, sample_rate=0.01, steps=1000, delta=1e-5) < 1500


def test_privacy_is_imported_without_torch() -> None:
    script = "import sys, tg_workbench.privacy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
