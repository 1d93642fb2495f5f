"""FedYogi: Yogi at the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2:
vₜ = vₜ₋₁ − (1 − β₂)·Δₜ²·sign(vₜ₋₁ − Δₜ²).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.adaptive import Adaptive, check_beta
from tg_workbench.federation.strategies.mean import MeanThenStep
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedYogi:
    """Adam whose memory of large steps fades slowly."""

    name: ClassVar[str] = "fedyogi"
    summary: ClassVar[str] = (
        "Yogi at the server: like FedAdam, and calmer when updates are noisy. The learning rate needs tuning."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1
    server_learning_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        self._adaptive.check()
        check_beta(self.beta_2, "beta_2")

    @property
    def _adaptive(self) -> Adaptive:
        return Adaptive(self.server_learning_rate, self.beta_1, self.tau)

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round whose step is the mean, over the root of its squares as Yogi keeps them."""
        return MeanThenStep(parameters, state, self._step)

    def _step(self, mean: Vector, state: State) -> tuple[Vector, State]:
        return self._adaptive.step(mean, state, self._second)

    def _second(self, before: Vector, square: Vector) -> Vector:
        import numpy as np

        shrunk: Vector = np.sign(before - square)
        shrunk *= square
        shrunk *= self.beta_2 - 1.0
        shrunk += before
        return shrunk
