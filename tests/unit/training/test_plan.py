"""What a step will cost is decided once, from what is asked and what the dataset demands."""

from __future__ import annotations

from typing import Any

import pytest

from tg_workbench.datasets import Dataset
from tg_workbench.privacy import epsilon
from tg_workbench.training.plan import choose_plan
from tg_workbench.training.specs import ClientSpec, DPSpec


def dataset(**changes: Any) -> Dataset:
    values: dict[str, Any] = {
        "id": "ds-1",
        "owner_id": "me",
        "tenant_id": "us",
        "name": "people",
        "privacy": "protected",
        "format": "safetensors",
        "size": 1000,
        "blob": "0" * 64,
        "population": "ds-1",
        "delta": 1e-5,
        "epsilon_cap": 10.0,
    }
    return Dataset(**{**values, **changes})


@pytest.mark.parametrize("batch_size", [1, 8, 500])
def test_rows_that_the_caller_chooses_are_never_amplified(batch_size: int) -> None:
    plan = choose_plan(ClientSpec("mlp", dp=DPSpec(noise_multiplier=1.0), batch_size=batch_size), None)
    assert plan is not None
    assert (plan.mode, plan.sample_rate) == ("client_batches", 1.0)


@pytest.mark.parametrize(("batch_size", "rate"), [(10, 0.01), (1000, 1.0), (5000, 1.0)])
def test_rows_that_the_server_draws_are_amplified_by_their_rate(batch_size: int, rate: float) -> None:
    spec = ClientSpec("mlp", dp=DPSpec(noise_multiplier=1.0), batch_size=batch_size, dataset_id="ds-1")
    plan = choose_plan(spec, dataset())
    assert plan is not None
    assert (plan.mode, plan.sample_rate) == ("sampled", rate)


def test_a_protected_dataset_has_a_plan_without_being_asked() -> None:
    plan = choose_plan(ClientSpec("mlp", dataset_id="ds-1", batch_size=50), dataset(epsilon_cap=2.0))
    assert plan is not None
    assert (plan.target_epsilon, plan.delta, plan.dataset_epsilon_cap) == (2.0, 1e-5, 2.0)
    assert choose_plan(ClientSpec("mlp", dataset_id="ds-1"), dataset(privacy="public")) is None


def test_a_dataset_of_people_is_drawn_by_people() -> None:
    spec = ClientSpec("mlp", dp=DPSpec(noise_multiplier=1.0), batch_size=10, dataset_id="ds-1")
    plan = choose_plan(spec, dataset(units=50, unit="patient"))
    assert plan is not None
    assert (plan.sample_rate, plan.unit, plan.unit_name, plan.counts_participants) == (
        0.2,
        "unit",
        "patient",
        False,
    )


def test_noise_is_for_as_many_steps_as_one_record_may_be_in() -> None:
    dp = DPSpec(target_epsilon=3.0, unit="record", max_participations=2)
    plan = choose_plan(ClientSpec("mlp", dp=dp, max_steps=1000), None)
    assert plan is not None
    told = {"sample_rate": 1.0, "delta": 1e-5}
    assert epsilon(noise_multiplier=plan.noise_multiplier, steps=2, **told) <= 3.0  # type: ignore[arg-type]
    assert epsilon(noise_multiplier=plan.noise_multiplier, steps=3, **told) > 3.0  # type: ignore[arg-type]
    assert (plan.horizon, plan.counts_participants) == (2, True)
