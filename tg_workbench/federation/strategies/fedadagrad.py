"""FedAdagrad: Adagrad at the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2: vₜ = vₜ₋₁ + Δₜ².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.adaptive import Adaptive
from tg_workbench.federation.strategies.mean import MeanThenStep
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedAdagrad:
    """Each parameter's step is divided by all that it has moved."""

    name: ClassVar[str] = "fedadagrad"
    summary: ClassVar[str] = (
        "Adagrad at the server: for sparse data such as words, where few parameters move. Its "
        "steps only ever get shorter."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1
    server_learning_rate: float = 0.1
    beta_1: float = 0.0
    tau: float = 1e-3

    def __post_init__(self) -> None:
        self._adaptive.check()

    @property
    def _adaptive(self) -> Adaptive:
        return Adaptive(self.server_learning_rate, self.beta_1, self.tau)

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round whose step is the mean, over the root of all squares so far."""
        return MeanThenStep(parameters, state, self._step)

    def _step(self, mean: Vector, state: State) -> tuple[Vector, State]:
        return self._adaptive.step(mean, state, lambda before, square: before + square)
