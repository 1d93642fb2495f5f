"""How long a reading of ε takes: after every step of a run, and of a very long one at once, in CPU time."""

from __future__ import annotations

import time
from typing import Any

from tg_workbench.privacy import GaussianStep, Odometer, curves, epsilon

RUN = GaussianStep(1.1, 256 / 60_000)
RUN_STEPS, RUN_DELTA, RUN_CAP = 14_063, 1e-5, 3.0
LONG: dict[str, Any] = {"noise_multiplier": 1.0, "sample_rate": 1e-3, "steps": 200_000, "delta": 1e-6}


def main() -> list[dict[str, Any]]:
    """Measure from empty caches and return the rows."""
    curves.pld_epsilon.cache_clear()
    curves.rdp_of_one_step.cache_clear()
    each = live()
    first, again = long_run(), long_run()
    return [
        row(f"live ε of {RUN_STEPS:,} steps, per step (ms)", 1e3 * each, "at most 5 ms", each <= 5e-3),
        row("PLD ε of 200,000 steps, first time (s)", first, "at most 3 s", first <= 3.0),
        row("PLD ε of 200,000 steps, again (s)", again, "at most 0.1 s", again <= 0.1),
    ]


def live() -> float:
    """Seconds per step of a whole run: what is spent and how many steps are left, read after each."""
    odometer = Odometer(RUN_DELTA, plan_steps=RUN_STEPS)
    began = time.process_time()
    for taken in range(1, RUN_STEPS + 1):
        odometer.steps_left({RUN: taken}, RUN, RUN_CAP)
        odometer.epsilon({RUN: taken})
    return (time.process_time() - began) / RUN_STEPS


def long_run() -> float:
    """Seconds of one reading."""
    began = time.process_time()
    epsilon(**LONG)
    return time.process_time() - began


def row(case: str, value: float, target: str, met: bool) -> dict[str, Any]:
    """A row of the table."""
    return {"case": case, "value": value, "target": target, "met": met}
