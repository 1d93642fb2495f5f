from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tg_workbench.engine.schedules import SCHEDULES, Schedule
from tg_workbench.errors import InvalidRequest


def rates(steps: int = 10, **more: Any) -> list[float]:
    plan = Schedule(**more)
    return [round(plan.learning_rate(step, 1.0), 6) for step in range(steps)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_starts_at_the_top_and_never_rises_or_falls_below_zero(name: str) -> None:
    found = rates(30, name=name, total_steps=20, step_size=5)
    assert found[0] == 1.0
    assert all(0.0 <= later <= sooner for sooner, later in pairwise(found))


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_in_equal_steps_to_the_same_schedule(name: str) -> None:
    found = rates(24, name=name, total_steps=24, warmup_steps=4, step_size=5)
    assert found[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert found[4:] == rates(20, name=name, total_steps=20, step_size=5)


def test_schedules_go_as_their_names_say() -> None:
    assert rates(3) == [1.0, 1.0, 1.0]
    assert rates(6, name="linear", total_steps=4) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert rates(5, name="cosine", total_steps=4, floor=0.5) == [1.0, 0.926777, 0.75, 0.573223, 0.5]
    assert rates(5, name="step", step_size=2, gamma=0.5) == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert rates(4, name="warmup", warmup_steps=1) == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "never"},
        {"name": "linear"},
        {"name": "cosine"},
        {"name": "step"},
        {"name": "step", "step_size": 0},
        {"total_steps": 0},
        {"warmup_steps": -1},
        {"total_steps": 3, "warmup_steps": 4},
        {"gamma": 0.0},
        {"floor": 1.5},
    ],
)
def test_schedule_nobody_can_follow_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Schedule(**wrong)
