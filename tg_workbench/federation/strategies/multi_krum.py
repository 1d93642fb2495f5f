"""MultiKrum: the mean of those updates that lie nearest to their neighbours.

Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent", NIPS 2017, sections 4 and 7: of n updates, f of them lies, each has the score Σ ‖Vᵢ − Vⱼ‖² over its
n − f − 2 nearest; those with the m smallest scores are averaged; 2f + 2 < n. Every device counts alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.gathering import Gathering
from tg_workbench.federation.strategies.mean import Mean
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State, is_count, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tg_workbench.federation.strategies.strategy import Vector

NUMBERS = 1 << 18
"""How many numbers are held at a time, over all rows: 2 MiB, in float64."""


@strategy
@dataclass(frozen=True, slots=True)
class MultiKrum:
    """The mean of the updates with the nearest neighbours."""

    name: ClassVar[str] = "multi-krum"
    summary: ClassVar[str] = (
        "Leaves out whole updates that lie far from the others: holds against a stated number of lying "
        "devices. Costs accuracy where devices' data differ: honest outsiders are left out as well. Cannot "
        "go together with secure aggregation."
    )
    needs_each_update: ClassVar[bool] = True
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule()
    malicious: int = 1
    """f, how many devices may lie."""
    selected: int | None = None
    """m, how many updates are averaged; None: n − f − 2. With 1 it is Krum."""

    def __post_init__(self) -> None:
        require(is_count(self.malicious, 0, 100_000), "malicious", "a whole number from 0 to 100000")
        is_selected = self.selected is None or is_count(self.selected, 1, 100_000)
        require(is_selected, "selected", "a whole number from 1 to 100000, or none")

    @property
    def fewest(self) -> int:
        """2f + 3, and f more than are to be selected: of fewer, a lie would be among them for sure."""
        return max(2 * self.malicious + 3, (self.selected or 1) + self.malicious)

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round that keeps its updates until it finishes."""
        return Gathering(parameters, self.fewest, self._step)

    def _step(self, deltas: Sequence[Vector]) -> tuple[Vector, dict[str, float]]:
        near = len(deltas) - self.malicious - 2
        chosen = sorted(_lowest(scores(deltas, near), self.selected or near))
        mean = Mean(len(deltas[0]))
        for n in chosen:
            mean.add(deltas[n], 1.0)
        return mean.finish(), {"selected": len(chosen)}


def scores(deltas: Sequence[Vector], near: int) -> NDArray[np.float64]:
    """Each update's squared distances to its `near` nearest neighbours, added up."""
    import numpy as np

    distances = squared_distances(deltas)
    np.fill_diagonal(distances, np.inf)
    found: NDArray[np.float64] = np.sort(distances, axis=1)[:, :near].sum(axis=1)
    return found


def squared_distances(deltas: Sequence[Vector]) -> NDArray[np.float64]:
    """‖Vᵢ − Vⱼ‖² for all pairs, out of inner products in float64, block by block."""
    import numpy as np

    count, size = len(deltas), len(deltas[0])
    products = np.zeros((count, count))
    width = max(1024, NUMBERS // count)
    for start in range(0, size, width):
        block = np.stack([delta[start : start + width] for delta in deltas]).astype(np.float64)
        products += block @ block.T
    squares = np.diagonal(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0)


def _lowest(values: NDArray[np.float64], count: int) -> list[int]:
    """Where the lowest values are; of equal ones the first."""
    import numpy as np

    return [int(n) for n in np.argsort(values, kind="stable")[:count]]
