"""Encoding: how a round writes an update and its weight as words, and their sum as a weighted mean.

A device weighs by its samples: it multiplies its delta by their share of `most_samples`, and appends their
number as one more word. Those words add up exactly, so the mean is divided by what was really there.

With a `clip_norm` every device counts once, and holds its delta to that norm, rounding included: whatever
others send, what one such device adds to the sum is no longer than `clip_norm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tg_workbench.errors import InvalidField, SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation.quantising import MOST_DEVICES, Quantiser

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tg_workbench.federation.strategies.strategy import Vector
    from tg_workbench.federation.updates.secure_aggregation.masks import Words

BOUND = 8.0
"""No number of a delta is larger: one epoch rarely moves a parameter by so much."""
MOST_SAMPLES = 100_000
"""A device with more counts as one with so many."""
NOISE_ROOM = 8.0
"""So many standard deviations of the noise fit beside a sum before it goes around."""
MOST_NOISE = 1000.0
"""More of it would leave too few levels for what it is added to."""
WORD_BYTES = 4
MASKED = "masked"
"""What a manifest calls the form of an update under masks."""


@dataclass(frozen=True)
class Encoding:
    """How the devices of one round write their updates; everybody in it must use the same."""

    devices: int
    bound: float = BOUND
    most_samples: int = MOST_SAMPLES
    clip_norm: float | None = None
    noise_multiplier: float = 0.0

    def __post_init__(self) -> None:
        fits = self.devices * self.most_samples < 2**32 and self.most_samples >= 1
        if not 0 < self.devices <= MOST_DEVICES or not fits or not 0 < self.bound < 1e30:
            raise InvalidField("secure_aggregation", "must be of devices and samples whose sum is a word")
        if not 0.0 <= self.noise_multiplier <= MOST_NOISE:
            raise InvalidField("secure_aggregation", f"must have noise of at most {MOST_NOISE:g}")

    @classmethod
    def weighted(cls, devices: int, most_samples: int = MOST_SAMPLES) -> Encoding:
        """Devices count by their samples."""
        return cls(devices, most_samples=most_samples)

    @classmethod
    def clipped(cls, devices: int, clip_norm: float, noise_multiplier: float) -> Encoding:
        """Every device counts once, and clips; noise of so many times that norm will be added to the sum."""
        return cls(devices, clip_norm, 1, clip_norm, noise_multiplier)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Encoding:
        """What `as_json` wrote. Raises InvalidField."""
        try:
            return cls(**told)
        except TypeError:
            raise InvalidField("secure_aggregation", "must be an encoding") from None

    def as_json(self) -> dict[str, Any]:
        """Itself, to be signed or stored."""
        return asdict(self)

    @cached_property
    def quantiser(self) -> Quantiser:
        """With room for the noise: a sum that goes around would be another one."""
        return Quantiser(self.bound, self.devices + math.ceil(NOISE_ROOM * self.noise_multiplier))

    @property
    def whole(self) -> float:
        """From where on the numbers of a sum begin anew: words are added modulo 2^32."""
        return 2**32 * 2 * self.bound / self.quantiser.levels

    def words(self, delta: Vector, samples: int) -> Words:
        """What a device masks. Raises SecureAggregationRefused for numbers that are not finite."""
        import numpy as np

        if not np.isfinite(delta).all():
            raise SecureAggregationRefused("an update holds what is no finite number")
        weight = min(samples, self.most_samples)
        wide = delta.astype(np.float64) * (weight / self.most_samples)
        if self.clip_norm is not None:
            wide *= self._factor(float(np.linalg.norm(wide)), len(wide))
        words = np.empty(len(delta) + 1, dtype=np.uint32)
        words[:-1], words[-1] = self.quantiser.words(wide), weight
        return words

    def sum_of(self, total: Words, devices: int) -> NDArray[np.float64]:
        """The sum of the weighted deltas of so many devices, from the sum of their words."""
        return self.quantiser.numbers(total[:-1], devices)

    def mean_of(self, total: Words, devices: int) -> tuple[Vector, int]:
        """The weighted mean of the deltas, and of how many samples. SecureAggregationRefused: of none."""
        import numpy as np

        samples = int(total[-1])
        if not 0 < samples <= devices * self.most_samples:
            raise SecureAggregationRefused("a device has sent what was no update")
        mean = self.sum_of(total, devices) * (self.most_samples / samples)
        return mean.astype(np.float32), samples

    def most_error(self, devices: int, samples: int) -> float:
        """How far a number of the mean may be from that of the clipped deltas."""
        return self.quantiser.most_error(devices) * self.most_samples / samples

    def brought_back(self, noisy: NDArray[np.floating[Any]], divisor: float = 1.0) -> Vector:
        """A noisy sum, divided by something, within one turn around zero.

        Words are added modulo 2^32, so a device that lies can have the sum go around or not by what another
        adds. Noise hides the other all the same if what it is added to counts modulo the same turn.
        """
        import numpy as np

        turn = self.whole / divisor
        wide = noisy.astype(np.float64)
        found: Vector = (wide - turn * np.rint(wide / turn)).astype(np.float32)
        return found

    def _factor(self, norm: float, size: int) -> float:
        """What makes a delta so short that, rounded to words, it is within `clip_norm`."""
        clip_norm = self.clip_norm or 0.0
        room = clip_norm * (1.0 - 1e-6) - math.sqrt(size) * self.quantiser.most_error(1)
        if room <= 0:
            raise SecureAggregationRefused("so many devices leave too few levels for so large a model")
        return min(1.0, room / norm) if norm > 0 else 1.0
