"""Norm bound: no update may be longer than a bound; a longer one is scaled down to it, or left out.

Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019, section 5:
w ← w + Σ (nₖ/n)·Δₖ / max(1, ‖Δₖ‖₂/M).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.errors import TooFewUpdates
from tg_workbench.federation.strategies.mean import Mean, check, length, moved, require_single
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import (
    Aggregation,
    LocalRule,
    Outcome,
    State,
    Update,
    is_number,
    require,
)

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class NormBound:
    """The weighted mean of updates none of which is longer than the bound."""

    name: ClassVar[str] = "norm-bound"
    summary: ClassVar[str] = (
        "FedAvg in which no update is longer than a bound: a boosted, poisoned one loses its force. Costs "
        "accuracy where devices' data differ and honest updates are longer than the bound. Cannot go "
        "together with secure aggregation."
    )
    needs_each_update: ClassVar[bool] = True
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1
    bound: float = 1.0
    refuse: bool = False
    """Leave a longer update out, in place of scaling it."""

    def __post_init__(self) -> None:
        require(is_number(self.bound, 1e-9, 1e9), "bound", "a number from 1e-9 to 1e9")
        require(isinstance(self.refuse, bool), "refuse", "true or false")

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round in constant memory."""
        return Bounded(parameters, self)


class Bounded:
    """The mean of bounded updates on its way."""

    def __init__(self, parameters: Vector, rule: NormBound) -> None:
        self._parameters, self._rule = parameters, rule
        self._mean = Mean(len(parameters))
        self._scaled = self._refused = 0

    def add(self, update: Update) -> None:
        """Take in one update, no longer than the bound."""
        require_single(update)
        check(update.delta, len(self._parameters))
        excess = length(update.delta) / self._rule.bound
        if excess > 1.0 and self._rule.refuse:
            self._refused += 1
            return
        self._scaled += excess > 1.0
        self._mean.add(update.delta, update.weight, factor=1.0 / max(1.0, excess))

    def finish(self) -> Outcome:
        """The parameters moved by the mean. Raises TooFewUpdates where all were left out."""
        if self._refused and not self._mean.devices:
            raise TooFewUpdates(0, 1, f"{self._refused} were longer than the bound of {self._rule.bound:g}")
        figures = {
            "devices": self._mean.devices,
            "samples": self._mean.weight,
            "scaled": self._scaled,
            "refused": self._refused,
        }
        return moved(self._parameters, self._mean.finish(), {}, figures)
