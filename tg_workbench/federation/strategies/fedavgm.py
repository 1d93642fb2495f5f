"""FedAvgM: FedAvg with momentum at the server.

Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019, section 4.3: v ← β·v + Δw, w ← w − v; here Δ points forward, so w ← w + η·v.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.mean import MeanThenStep
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import (
    Aggregation,
    LocalRule,
    State,
    is_number,
    remembered,
    require,
)

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedAvgM:
    """The weighted mean of all updates, with momentum from round to round."""

    name: ClassVar[str] = "fedavgm"
    summary: ClassVar[str] = (
        "FedAvg with momentum at the server: fewer rounds where devices' data differ, but it overshoots "
        "when momentum or learning rate are high."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1
    momentum: float = 0.9
    server_learning_rate: float = 1.0

    def __post_init__(self) -> None:
        require(is_number(self.momentum, 0.0, 0.9999), "momentum", "a number from 0 to 0.9999")
        require(
            is_number(self.server_learning_rate, 1e-9, 1e3),
            "server_learning_rate",
            "a number from 1e-9 to 1e3",
        )

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round whose step is the mean, and what is left of the steps before."""
        return MeanThenStep(parameters, state, self._step)

    def _step(self, mean: Vector, state: State) -> tuple[Vector, State]:
        velocity = remembered(state, "velocity", len(mean)) * self.momentum
        velocity += mean
        return velocity * self.server_learning_rate, {"velocity": velocity}
