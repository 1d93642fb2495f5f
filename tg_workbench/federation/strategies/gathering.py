"""An aggregation that must see all updates at once: it keeps them, as they were handed in.

Deltas that are mapped from files stay in their files; what is held besides is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tg_workbench.errors import TooFewUpdates
from tg_workbench.federation.strategies.mean import check, moved, require_single
from tg_workbench.federation.strategies.strategy import Outcome, Update

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector

Rule = Callable[["Sequence[Vector]"], "tuple[Vector, Mapping[str, float]]"]
"""All deltas → the step, a new array, and figures."""


class Gathering:
    """Updates that wait for each other."""

    def __init__(self, parameters: Vector, fewest: int, rule: Rule) -> None:
        self._parameters, self._fewest, self._rule = parameters, fewest, rule
        self._deltas: list[Vector] = []
        self._samples = 0.0

    def add(self, update: Update) -> None:
        """Keep one update."""
        require_single(update)
        check(update.delta, len(self._parameters))
        self._deltas.append(update.delta)
        self._samples += update.weight

    def finish(self) -> Outcome:
        """The parameters moved by what the rule makes of all updates."""
        if len(self._deltas) < self._fewest:
            raise TooFewUpdates(have=len(self._deltas), need=self._fewest)
        step, figures = self._rule(self._deltas)
        told = {"devices": len(self._deltas), "samples": self._samples, **figures}
        return moved(self._parameters, step, {}, told)
