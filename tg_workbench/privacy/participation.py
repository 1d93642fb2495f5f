"""Participation: how much each of those who were in steps without sampling has told.

Gaussian releases compose to one Gaussian, also when each is chosen after the last was seen: who was in steps
with noise σ₁, σ₂ … stands as in one step with noise (Σ 1/σᵢ²)^-½ (Dong, Roth and Su 2022, corollary 3.3; as a
filter, Koskela, Tobaben and Honkela 2022). ε is that of whoever took part most.

Pitfalls: who takes part must not depend on who else does. Leaving one out has to leave the batches of all
others as they were.
"""

from __future__ import annotations

from collections.abc import Iterable

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.steps import GaussianStep


class Participation:
    """Σ 1/σ² over the steps of each participant, by key."""

    def __init__(self) -> None:
        self._costs: dict[bytes, float] = {}
        self._largest = 0.0
        self.steps = 0
        """How many steps were added."""

    def add(self, participants: Iterable[bytes], noise_multiplier: float) -> None:
        """Count a step. Raises InvalidRequest for one without noise, which nothing bounds."""
        cost = _cost(noise_multiplier)
        for key in participants:
            self._costs[key] = self._costs.get(key, 0.0) + cost
            self._largest = max(self._largest, self._costs[key])
        self.steps += 1

    def worst(self) -> dict[GaussianStep, int]:
        """The step that whoever took part most might as well have been in, once; none if nobody did."""
        return _as_step(self._largest)

    def worst_after(self, participants: Iterable[bytes], noise_multiplier: float) -> dict[GaussianStep, int]:
        """The same after a step of these participants."""
        cost = _cost(noise_multiplier)
        costs = (self._costs.get(key, 0.0) + cost for key in participants)
        return _as_step(max(self._largest, max(costs, default=0.0)))


def _cost(noise_multiplier: float) -> float:
    if noise_multiplier <= 0.0:
        raise InvalidRequest("a step without noise has no ε")
    return noise_multiplier**-2


def _as_step(cost: float) -> dict[GaussianStep, int]:
    return {GaussianStep(cost**-0.5, 1.0): 1} if cost > 0.0 else {}
