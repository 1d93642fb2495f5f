"""What the three adaptive server optimizers share.

Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan, "Adaptive Federated Optimization", ICLR 2021,
Algorithm 2: mₜ = β₁·mₜ₋₁ + (1 − β₁)·Δₜ; vₜ by the rule's own line; xₜ₊₁ = xₜ + η·mₜ/(√vₜ + τ); v₋₁ = τ².
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tg_workbench.federation.strategies.strategy import State, is_number, remembered, require

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector

FIRST, SECOND = "first_moment", "second_moment"
Second = Callable[["Vector", "Vector"], "Vector"]
"""(v of the last round, squares of the mean delta) → v of this round."""


@dataclass(frozen=True, slots=True)
class Adaptive:
    """The options of an adaptive server optimizer."""

    server_learning_rate: float
    beta_1: float
    tau: float

    def check(self) -> None:
        """Each option is one that Algorithm 2 can use, or InvalidField says which is not."""
        require(
            is_number(self.server_learning_rate, 1e-9, 1e3),
            "server_learning_rate",
            "a number from 1e-9 to 1e3",
        )
        check_beta(self.beta_1, "beta_1")
        require(is_number(self.tau, 1e-10, 1e3), "tau", "a number from 1e-10 to 1e3")

    def step(self, mean: Vector, state: State, second: Second) -> tuple[Vector, State]:
        """What to add to the parameters, and both moments for the next round."""
        import numpy as np

        size = len(mean)
        moment = remembered(state, FIRST, size) * self.beta_1
        moment += mean * (1.0 - self.beta_1)
        squares = second(remembered(state, SECOND, size, self.tau**2), np.square(mean, out=mean))
        step = np.sqrt(squares)
        step += self.tau
        np.divide(moment, step, out=step)
        step *= self.server_learning_rate
        return step, {FIRST: moment, SECOND: squares}


def check_beta(beta: float, option: str) -> None:
    """A decay from 0 to just below 1."""
    require(is_number(beta, 0.0, 0.99999), option, "a number from 0 to 0.99999")
