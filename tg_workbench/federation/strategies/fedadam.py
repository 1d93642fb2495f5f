"""FedAdam: Adam at the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2: vₜ = β₂·vₜ₋₁ + (1 − β₂)·Δₜ². The
paper does not correct the bias of the first rounds; with `bias_correction` it is done as in Kingma and Ba,
"Adam", ICLR 2015, before section 2.1: η·√(1 − β₂ᵗ)/(1 − β₁ᵗ), t from 1. (Flower counts t from 2.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.adaptive import Adaptive, check_beta
from tg_workbench.federation.strategies.mean import MeanThenStep
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State, counted, require

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedAdam:
    """Each parameter's step is divided by how much it moved of late."""

    name: ClassVar[str] = "fedadam"
    summary: ClassVar[str] = (
        "Adam at the server: few rounds where parameters move by very different amounts, as in "
        "transformers. The learning rate needs tuning."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1
    server_learning_rate: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3
    bias_correction: bool = False

    def __post_init__(self) -> None:
        self._adaptive.check()
        check_beta(self.beta_2, "beta_2")
        require(isinstance(self.bias_correction, bool), "bias_correction", "true or false")

    @property
    def _adaptive(self) -> Adaptive:
        return Adaptive(self.server_learning_rate, self.beta_1, self.tau)

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round whose step is the mean, over the root of its recent squares."""
        return MeanThenStep(parameters, state, self._step)

    def _step(self, mean: Vector, state: State) -> tuple[Vector, State]:
        steps = counted(state, "steps") + 1
        step, moments = self._adaptive.step(mean, state, self._second)
        if self.bias_correction:
            step *= math.sqrt(1.0 - self.beta_2**steps) / (1.0 - self.beta_1**steps)
        return step, {**moments, "steps": float(steps)}

    def _second(self, before: Vector, square: Vector) -> Vector:
        square *= 1.0 - self.beta_2
        square += self.beta_2 * before
        return square
