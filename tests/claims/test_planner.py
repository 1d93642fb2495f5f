"""Does a run cost what the planner said it would, and does the cap stop it where the planner said?"""

from __future__ import annotations

import math

import pytest

from tg_workbench import privacy
from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import GaussianStep
from tg_workbench.privacy.planner import Question, answer


def test_the_noise_it_finds_is_the_accountants() -> None:
    found = answer(Question(sample_rate=0.05, steps=400, delta=1e-5, target_epsilon=2.0))
    assert found.noise_multiplier == privacy.noise_multiplier(
        target_epsilon=2.0, delta=1e-5, sample_rate=0.05, steps=400
    )
    exact = privacy.epsilon(noise_multiplier=found.noise_multiplier, sample_rate=0.05, steps=400, delta=1e-5)
    assert found.epsilon == pytest.approx(exact)
    assert found.epsilon <= 2.0


def test_its_curve_never_says_too_little_and_never_falls() -> None:
    found = answer(Question(sample_rate=0.02, steps=1000, delta=1e-5, noise_multiplier=1.1))
    told = found.curve["epsilon"]
    assert told == sorted(told)
    for count, said in list(zip(found.curve["steps"], told, strict=True))[::6]:
        exact = privacy.epsilon(noise_multiplier=1.1, sample_rate=0.02, steps=int(count), delta=1e-5)
        assert exact <= said * (1 + 1e-9)
        assert said <= exact * 1.06
    assert found.curve["steps"][-1] == 1500


def test_what_was_spent_counts_and_the_cap_allows_just_so_many_steps() -> None:
    spent = ((GaussianStep(1.1, 0.02), 300),)
    found = answer(
        Question(sample_rate=0.02, steps=200, delta=1e-5, noise_multiplier=1.1, spent=spent, cap=2.0)
    )
    assert found.steps_left is not None

    def after(more: int) -> float:
        return privacy.epsilon(noise_multiplier=1.1, sample_rate=0.02, steps=300 + more, delta=1e-5)

    assert after(found.steps_left) <= 2.0 < after(found.steps_left + 1)
    assert found.total_epsilon == pytest.approx(after(200), rel=0.06)
    assert found.total_epsilon > found.epsilon


def test_other_steps_spent_before_are_composed_with_the_plan() -> None:
    spent = ((GaussianStep(2.0, 0.5), 10), (GaussianStep(1.5, 1.0), 2))
    found = answer(Question(sample_rate=0.02, steps=200, delta=1e-5, noise_multiplier=1.1, spent=spent))
    assert found.total_epsilon > max(
        found.epsilon, privacy.epsilon(noise_multiplier=2.0, sample_rate=0.5, steps=10, delta=1e-5)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"target_epsilon": 1.0, "noise_multiplier": 1.0},
        {"noise_multiplier": 1.0, "steps": 0},
        {"noise_multiplier": 1.0, "steps": 2_000_000},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": 1.0, "sample_rate": 1.5},
        {"noise_multiplier": 1.0, "delta": 1.0},
        {"noise_multiplier": 1.0, "accountant": "gdp"},
    ],
    ids=str,
)
def test_what_nobody_can_plan_is_refused(wrong: dict[str, float]) -> None:
    terms = {"sample_rate": 0.1, "steps": 10, "delta": 1e-5, **wrong}
    with pytest.raises(InvalidRequest):
        answer(Question(**terms))  # type: ignore[arg-type]
