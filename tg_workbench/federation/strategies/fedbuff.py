"""FedBuff: devices hand in when they like, and every K updates make a model.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba, "Federated Learning with Buffered Asynchronous
Aggregation", AISTATS 2022, Algorithm 1 and section 5: Δ̄ = (1/K)·Σ s(τᵢ)·Δᵢ with s(τ) = 1/√(1 + τ), and
w ← w + η·Δ̄. Every update counts alike: by its staleness, not by its samples. K is the caller's: a round's
`target_participants`, or fewer where its deadline closes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.mean import Mean, moved, require_single
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import (
    Aggregation,
    LocalRule,
    Outcome,
    State,
    Update,
    is_count,
    is_number,
    require,
)

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedBuff:
    """The mean of the last K updates, the stale ones shortened."""

    name: ClassVar[str] = "fedbuff"
    summary: ClassVar[str] = (
        "For devices that come when they like: every few updates make a model, and the later an update, "
        "the less it counts; more than max_staleness models late it does not. Nobody waits for the slowest; "
        "the quick are heard more often. Cannot go together with secure aggregation or with privacy."
    )
    needs_each_update: ClassVar[bool] = True
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1
    max_staleness: int = 4
    """How many versions late an update may be; a later one is not taken."""
    server_learning_rate: float = 1.0

    def __post_init__(self) -> None:
        require(is_count(self.max_staleness, 0, 20), "max_staleness", "a whole number from 0 to 20")
        require(
            is_number(self.server_learning_rate, 1e-9, 1e3),
            "server_learning_rate",
            "a number from 1e-9 to 1e3",
        )

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A buffer, kept as a sum."""
        return Buffer(parameters, float(self.server_learning_rate))


class Buffer:
    """One sum, however many updates are in it."""

    def __init__(self, parameters: Vector, server_learning_rate: float) -> None:
        self._parameters, self._rate = parameters, server_learning_rate
        self._mean = Mean(len(parameters))
        self._samples, self._stalest = 0.0, 0

    def add(self, update: Update) -> None:
        """Take in one update, weighted by 1/√(1 + staleness)."""
        require_single(update)
        self._mean.add(update.delta, 1.0 / math.sqrt(1.0 + update.staleness))
        self._samples += update.weight
        self._stalest = max(self._stalest, update.staleness)

    def finish(self) -> Outcome:
        """The parameters moved by what is in the buffer."""
        figures = {"samples": self._samples, "devices": self._mean.devices, "stalest": self._stalest}
        step = self._mean.finish(divisor=self._mean.devices / self._rate)
        return moved(self._parameters, step, {}, figures)
