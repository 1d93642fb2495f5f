"""FedAvg: the mean of the devices' models, weighted by how many samples each learned from.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, Algorithm 1: w ← Σ (nₖ/n)·wₖ, here as w ← w + Σ (nₖ/n)·(wₖ − w).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.mean import MeanThenStep
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedAvg:
    """The weighted mean of all updates."""

    name: ClassVar[str] = "fedavg"
    summary: ClassVar[str] = (
        "The mean of all updates, weighted by samples. The place to start; one bad device can spoil it."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round whose step is the mean itself."""
        return MeanThenStep(parameters, state, lambda mean, _: (mean, {}))
