"""Schedules: the learning rate of each step of a run. Pure numbers; light.

A schedule looks at the number of the step alone, never at a loss or a row, so it costs no privacy. Add one by
writing a function under `@schedule`; the suite then checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tg_workbench.errors import InvalidRequest

Course = Callable[["Schedule", int], float]

SCHEDULES: dict[str, Course] = {}
"""Every schedule by its name: which part of the learning rate the n-th step after the warmup takes."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the learning rate goes from its first step to its last."""

    name: str = "constant"
    total_steps: int | None = None
    """How many steps the run has; `linear` and `cosine` need it."""
    warmup_steps: int = 0
    """Over so many steps the rate rises to its full height; the schedule begins after them."""
    step_size: int | None = None
    """Of `step` alone: after so many steps each time the rate is multiplied by `gamma`."""
    gamma: float = 0.1
    floor: float = 0.0
    """Which part of the rate is left at the end of `linear` and `cosine`, and the least of `step`."""

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise InvalidRequest(f"unknown schedule; use one of {', '.join(SCHEDULES)}")
        if self.total_steps is not None and self.total_steps < 1:
            raise InvalidRequest("total_steps of a schedule must be at least 1")
        if self.warmup_steps < 0 or (self.total_steps is not None and self.warmup_steps > self.total_steps):
            raise InvalidRequest("warmup_steps lie from 0 to total_steps")
        if not 0.0 < self.gamma <= 1.0 or not 0.0 <= self.floor <= 1.0:
            raise InvalidRequest("gamma of a schedule lies above 0 and up to 1, its floor from 0 to 1")
        if self.name in ("linear", "cosine") and self.total_steps is None:
            raise InvalidRequest(f"the schedule {self.name} needs total_steps: it is spread over them")
        if self.name == "step" and (self.step_size is None or self.step_size < 1):
            raise InvalidRequest("the schedule step needs a step_size of at least 1")

    def learning_rate(self, step: int, highest: float) -> float:
        """The rate of the step that comes after `step` others, of a run whose highest is `highest`."""
        if step < self.warmup_steps:
            return highest * (step + 1) / (self.warmup_steps + 1)
        return highest * SCHEDULES[self.name](self, step - self.warmup_steps)

    def _passed(self, step: int) -> float:
        """Which part of what follows the warmup is over: from 0 to 1."""
        assert self.total_steps is not None  # noqa: S101  (checked when it was made)
        return min(1.0, step / max(1, self.total_steps - self.warmup_steps))


def schedule(course: Course) -> Course:
    """Register a schedule under its own name."""
    SCHEDULES[course.__name__] = course
    return course


@schedule
def constant(_: Schedule, __: int) -> float:
    """The same at every step."""
    return 1.0


@schedule
def linear(plan: Schedule, step: int) -> float:
    """Straight down to the floor."""
    return 1.0 - (1.0 - plan.floor) * plan._passed(step)


@schedule
def cosine(plan: Schedule, step: int) -> float:
    """Half a wave down to the floor (Loshchilov and Hutter 2017)."""
    return plan.floor + (1.0 - plan.floor) * (1.0 + math.cos(math.pi * plan._passed(step))) / 2.0


@schedule
def step(plan: Schedule, number: int) -> float:
    """A stair: times gamma after every `step_size` steps."""
    assert plan.step_size is not None  # noqa: S101  (checked when it was made)
    return max(plan.floor, plan.gamma ** (number // plan.step_size))


@schedule
def warmup(_: Schedule, __: int) -> float:
    """The same at every step after the warmup, as `constant`: a name for what has `warmup_steps` alone."""
    return 1.0
