from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from dp_accounting.rdp import rdp_privacy_accountant as rdp

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import GaussianStep, Odometer, curves, epsilon, noise_multiplier

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


@pytest.mark.parametrize("noise", [1e-160, 1e-150, 1e-6, 0.00999])
@pytest.mark.parametrize("sample_rate", [1e-3, 0.5, 1.0])
def test_next_to_no_noise_is_never_read_as_private(noise: float, sample_rate: float) -> None:
    step = GaussianStep(noise, sample_rate)
    for accountant in ("pld", "rdp"):
        terms: dict[str, Any] = {
            "sample_rate": sample_rate,
            "steps": 4,
            "delta": 1e-5,
            "accountant": accountant,
        }
        assert epsilon(noise_multiplier=noise, **terms) > 1000
        assert Odometer(1e-5, accountant).epsilon({step: 4}) > 1000
        assert Odometer(1e-5, accountant).epsilon({step: 1, GaussianStep(1.0, 0.1): 10}) > 1000
        assert Odometer(1e-5, accountant).steps_left({}, step, cap=1000.0) == 0


@pytest.mark.parametrize("broken", [math.nan, -1.0, -math.inf])
def test_a_cost_that_could_not_be_computed_is_never_read_as_nothing(
    monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    true = curves.rdp_of_one_step(GaussianStep(1.0, 0.125), "add_or_remove_one").copy()

    class Overflowing(rdp.RdpAccountant):
        def compose(self, *event: Any) -> Any:
            super().compose(*event)
            self._rdp[40:] = broken
            return self

    monkeypatch.setattr(rdp, "RdpAccountant", Overflowing)  # what σ² = 0 makes of the library's own
    found = curves._rdp_of_event(1.0, 0.125, "add_or_remove_one")
    assert (found[:40] == true[:40]).all()
    assert np.isinf(found[40:]).all()
    assert curves.rdp_epsilon(found, 1e-5) >= curves.rdp_epsilon(true, 1e-5) > 0.0
    assert curves.rdp_epsilon(np.full_like(found, math.inf), 1e-5) == math.inf
