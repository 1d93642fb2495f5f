"""Numbers as 32-bit words whose sum over all devices does not overflow, and the sum as numbers again.

A number within ±`bound` becomes the nearest of evenly spaced levels, so many that the words of all `devices`
add up to less than 2^32. The words' sum is exact; so the sum of the numbers is off by at most half a level
for each device, however many have dropped out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tg_workbench.errors import SecureAggregationRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_DEVICES = 1 << 16
"""Beyond that fewer than 16 bits would be left for a number."""


@dataclass(frozen=True, slots=True)
class Quantiser:
    """How a round writes numbers as words; everybody in it must use the same."""

    bound: float
    devices: int

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1e30 or not 1 <= self.devices <= MOST_DEVICES:
            raise ValueError(f"a bound is above 0 and below 1e30, and there are 1 to {MOST_DEVICES} devices")

    @property
    def levels(self) -> int:
        """The highest word that a number may become."""
        return (2**32 - 1) // self.devices

    def most_error(self, devices: int) -> float:
        """How far a member of the sum of so many devices may be from that of their clipped numbers."""
        return devices * self.bound / self.levels * (1 + 1e-6)  # and what 53 bits cannot say

    def words(self, vector: NDArray[np.floating[Any]]) -> NDArray[np.uint32]:
        """The vector, clipped to the bound, as words; what is not finite raises SecureAggregationRefused."""
        import numpy as np

        if not np.isfinite(vector).all():
            raise SecureAggregationRefused("an update holds what is no finite number")
        shifted = np.clip(vector.astype(np.float64), -self.bound, self.bound) + self.bound
        return np.rint(shifted * (self.levels / (2 * self.bound))).astype(np.uint32)

    def numbers(self, total: NDArray[np.uint32], devices: int) -> NDArray[np.float64]:
        """The sum of the vectors of so many devices, from the sum of their words."""
        import numpy as np

        return total.astype(np.float64) * (2 * self.bound / self.levels) - devices * self.bound
