"""Coordinate-wise median: each parameter moves by the median of what the devices say.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, Definition 1 and Algorithm 1, option I. Every device counts alike: its samples are only a claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.columns import of_columns
from tg_workbench.federation.strategies.gathering import Gathering
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class Median:
    """The median of all updates, parameter by parameter."""

    name: ClassVar[str] = "median"
    summary: ClassVar[str] = (
        "Holds against up to half of the devices lying. Costs accuracy where devices' data differ: what "
        "only a few devices know is taken for a lie. Cannot go together with secure aggregation."
    )
    needs_each_update: ClassVar[bool] = True
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    fewest: ClassVar[int] = 1

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round that keeps its updates until it finishes."""
        return Gathering(parameters, self.fewest, lambda deltas: (median(deltas), {}))


def median(deltas: Sequence[Vector]) -> Vector:
    """The middle number of each column, or the mean of the middle two."""
    middle = len(deltas) // 2
    low = middle if len(deltas) % 2 else middle - 1
    return of_columns(deltas, low, middle + 1, _mean_of_two)


def _mean_of_two(rows: Sequence[Vector]) -> Vector:
    return rows[0] if len(rows) == 1 else rows[0] * 0.5 + rows[1] * 0.5
