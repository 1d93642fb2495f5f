"""Adaptive clipping: the clipping norm follows a quantile of the devices' norms, privately.

Andrew, Thakkar, McMahan and Ramaswamy 2021, Algorithm 1. Each round a second sum is released: of bᵢ - ½, bᵢ
being whether device i was not clipped, with noise σ_b. One device moves it by ½ (shifted so; the sum of bᵢ
alone would move by 1). A delta of zeros adds nothing, no more than one that never came: ε is about a delta
against zeros, and counted as short these would be a whole 1 from one that was clipped. The round as a whole
is one Gaussian release of noise multiplier z when the deltas get (Theorem 1)

    z_Δ = (z⁻² - (2 σ_b)⁻²)^(-½),

so it is z that is charged, and z_Δ that is drawn with. The norm then moves geometrically, C ← C · exp(-η (b̃
- γ)), which costs nothing more: it is computed from what was released.

Pitfalls: σ_b must be above z / 2, or no noise would be enough for the deltas. The first norm, the quantile
and η are settled in advance and not read off the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.noise import secure_gaussian
from tg_workbench.privacy.randomness import SecureRandom
from tg_workbench.privacy.user_level import Vector, noisy_mean, require_public_count

LEAST_NORM, MOST_NORM = 1e-6, 1e6
"""Where the norm stays, whatever the noise says."""
COUNT_SHARE = 0.05
"""σ_b as a part of the expected devices, as in the paper; with few devices it is the noise multiplier."""
_HALF = 0.5
"""How far one device moves the sum of bᵢ - ½."""


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """The clipping norm of the coming round, and how it will move."""

    clip_norm: float
    count_noise: float
    """σ_b: the standard deviation on the count of those that were not clipped."""
    quantile: float = 0.5
    """γ: the part of the devices that should not be clipped."""
    learning_rate: float = 0.2
    """η."""

    def __post_init__(self) -> None:
        if not LEAST_NORM <= self.clip_norm <= MOST_NORM:
            raise InvalidRequest(f"clip_norm must lie between {LEAST_NORM:g} and {MOST_NORM:g}")
        if not 0.0 < self.count_noise < math.inf:
            raise InvalidRequest("the noise on the count must be a finite number above 0")
        if not 0.0 < self.quantile < 1.0 or not 0.0 < self.learning_rate <= 1.0:
            raise InvalidRequest("a quantile lies between 0 and 1, a learning_rate above 0 and up to 1")

    @classmethod
    def begin(cls, clip_norm: float, noise_multiplier: float, expected_devices: float) -> AdaptiveClip:
        """The paper's settings for a run of this noise, whose first round clips at `clip_norm`."""
        require_public_count(expected_devices)
        return cls(clip_norm, max(COUNT_SHARE * expected_devices, noise_multiplier))

    def delta_noise(self, noise_multiplier: float) -> float:
        """z_Δ: what the deltas get, so that both sums together are a release of `noise_multiplier`."""
        left = noise_multiplier**-2 - (self.count_noise / _HALF) ** -2 if noise_multiplier > 0.0 else 0.0
        if left <= 0.0:
            raise InvalidRequest(
                "noise_multiplier must be above 0 and below twice the noise on the count: no noise on the "
                "deltas would make up for it"
            )
        return float(left**-0.5)

    def after(
        self, clipped: ClippedSum, expected_devices: float, *, generator: SecureRandom | None = None
    ) -> AdaptiveClip:
        """The norm of the next round, from a noisy count of those that this round did not clip."""
        require_public_count(expected_devices)
        self._require_mine(clipped)
        counted = int((clipped.norms > 0.0).sum())
        balance = counted - clipped.num_clipped - _HALF * counted  # Σ (bᵢ - ½)
        noise = float(secure_gaussian((1,), generator=generator, hardened=True)[0])
        below = (balance + self.count_noise * noise) / expected_devices + 0.5
        below = min(1.0, max(0.0, below))  # it is a part of the devices; cutting costs nothing
        norm = self.clip_norm * math.exp(-self.learning_rate * (below - self.quantile))
        return replace(self, clip_norm=min(MOST_NORM, max(LEAST_NORM, norm)))

    def release(
        self,
        clipped: ClippedSum,
        noise_multiplier: float,
        expected_devices: float,
        *,
        generator: SecureRandom | None = None,
    ) -> tuple[Vector, AdaptiveClip]:
        """The noisy mean of a round and the next round's norm: together a release of `noise_multiplier`."""
        self._require_mine(clipped)
        generator = generator or SecureRandom()
        noise = self.delta_noise(noise_multiplier)
        mean = noisy_mean(clipped, noise, expected_devices, generator=generator)
        return mean, self.after(clipped, expected_devices, generator=generator)

    def _require_mine(self, clipped: ClippedSum) -> None:
        if clipped.bound != self.clip_norm:
            raise InvalidRequest("these deltas were clipped at another norm than this round's")

    def as_json(self) -> dict[str, float]:
        """As it is kept from one round to the next; nothing in it is private."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> AdaptiveClip:
        """What `as_json` said. Raises InvalidRequest."""
        try:
            return cls(**{name: float(value) for name, value in kept.items()})
        except (TypeError, ValueError) as failure:
            raise InvalidRequest("this is no state of adaptive clipping") from failure
