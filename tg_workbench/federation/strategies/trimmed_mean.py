"""Coordinate-wise trimmed mean: the mean of what is left when the extremes are cut off on both sides.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, Definition 2 and Algorithm 1, option II: the ⌊β·m⌋ largest and smallest of m numbers are removed.
Every device counts alike: its samples are only a claim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.columns import of_columns
from tg_workbench.federation.strategies.gathering import Gathering
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State, is_number, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tg_workbench.federation.strategies.strategy import Vector

ROUNDING = 1e-9
"""So that 1/49 of 49 devices is one of them."""


@strategy
@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """The mean of the middle updates, parameter by parameter."""

    name: ClassVar[str] = "trimmed-mean"
    summary: ClassVar[str] = (
        "Holds against as many lying devices as are cut on each side. Costs accuracy where devices' data "
        "differ: what only a few devices know is cut. Cannot go together with secure aggregation."
    )
    needs_each_update: ClassVar[bool] = True
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    cut: float = 0.2
    """β, the part of the devices that is cut on each side."""

    def __post_init__(self) -> None:
        is_cut = self.cut == 0.0 or is_number(self.cut, 1e-5, 0.499)
        require(is_cut, "cut", "0, or a number from 1e-5 to 0.499")

    @property
    def fewest(self) -> int:
        """As many as it takes to cut one off on each side: with fewer, it would promise nothing."""
        return math.ceil(1.0 / self.cut - ROUNDING) if self.cut else 1

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round that keeps its updates until it finishes."""
        return Gathering(parameters, self.fewest, self._step)

    def _step(self, deltas: Sequence[Vector]) -> tuple[Vector, dict[str, float]]:
        off = math.floor(self.cut * len(deltas) + ROUNDING)
        return of_columns(deltas, off, len(deltas) - off, _mean), {"cut_each_side": off}


def _mean(rows: Sequence[Vector]) -> Vector:
    total = rows[0].copy()
    for row in rows[1:]:
        total += row
    total /= len(rows)
    return total
