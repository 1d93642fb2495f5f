"""User-level differential privacy of one aggregation: what all of a device's data did to a model is one unit.

DP-FedAvg (McMahan, Ramage, Talwar and Zhang 2018, Algorithm 1, with the estimator of a fixed denominator):
each device's delta is held to `clip_norm`, the clipped deltas are added up, N(0, (noise_multiplier ·
clip_norm)²) is added to every coordinate once, and the sum is divided by a public number of devices.

What is hidden is all that a device's delta was, against its having been zero (`zero_out_one`). Where the
server drew the devices and told nobody whom, that is the same as `add_or_remove_one`; where devices come by
themselves, or the first so many close a round, that a device took part is not hidden.

Devices are not weighted: a weight is how much data a device has, so it is private, and it would have to be
part of what is clipped. What a server does with the mean afterwards (momentum, Adam) costs nothing more.

Pitfalls: dividing by how many came tells how many came, and makes the noise depend on it. Everything else
that a round gives away about its updates (losses, norms, control variates) is not covered.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import _MADE_BY_CLIP, _SLACK, ClippedSum
from tg_workbench.privacy.noise import add_noise
from tg_workbench.privacy.randomness import SecureRandom

Vector = NDArray[np.float32]
DELTA = "delta"
"""The one tensor of a clipped sum of deltas."""
_PIECE = 1 << 18


class ClippedDeltas:
    """Adds up the deltas of devices, each held to `clip_norm`, in float64 and in the order they come.

    One device at a time: the room it needs does not grow with their number. The same deltas in the same order
    give the same bits.
    """

    def __init__(self, size: int, clip_norm: float) -> None:
        if size < 1:
            raise InvalidRequest("a delta has at least one number")
        if not 0.0 < clip_norm < math.inf:
            raise InvalidRequest("clip_norm must be a finite number above 0")
        self.clip_norm = float(clip_norm)
        self._sum = np.zeros(size, dtype=np.float64)
        self._norms: list[float] = []

    def add(self, delta: Vector) -> None:
        """Δ · min(1, clip_norm / ‖Δ‖) is added. A delta that is not finite counts zero: failing would tell.

        Raises InvalidRequest for another shape, which says nothing about the data.
        """
        if delta.shape != self._sum.shape:
            raise InvalidRequest(f"a delta of this model is one vector of {len(self._sum)} numbers")
        norm = _norm(delta)
        self._norms.append(norm)
        if not math.isfinite(norm):
            return
        weight = 1.0 if norm <= self.clip_norm * _SLACK else self.clip_norm * _SLACK / norm
        for start in range(0, len(delta), _PIECE):
            piece = slice(start, start + _PIECE)
            self._sum[piece] += delta[piece].astype(np.float64) * weight

    def finish(self) -> ClippedSum:
        """Their sum, which carries its bound."""
        return ClippedSum(
            tensors={DELTA: torch.from_numpy(self._sum)},
            bound=self.clip_norm,
            count=len(self._norms),
            norms=torch.tensor(self._norms, dtype=torch.float64),
            losses=torch.zeros(len(self._norms)),
            made_by=_MADE_BY_CLIP,
        )


def sum_that_devices_say_they_clipped(
    total: NDArray[np.float64], clip_norm: float, devices: int
) -> ClippedSum:
    """A sum whose parts nobody here has seen: that each is within `clip_norm` is the word of its device.

    For a device that does clip, ε is as true as ever: what it added is within the bound, and what others have
    added does not depend on its data. One that does not clip gives away its own privacy alone.
    """
    if not 0.0 < clip_norm < math.inf:
        raise InvalidRequest("clip_norm must be a finite number above 0")
    return ClippedSum(
        tensors={DELTA: torch.from_numpy(total)},
        bound=float(clip_norm),
        count=devices,
        norms=torch.full((devices,), float(clip_norm), dtype=torch.float64),
        losses=torch.zeros(devices),
        made_by=_MADE_BY_CLIP,
    )


def noisy_mean(
    clipped: ClippedSum,
    noise_multiplier: float,
    expected_devices: float,
    *,
    generator: SecureRandom | None = None,
) -> Vector:
    """(Σ clipped deltas + N(0, (noise_multiplier · clip_norm)²)) / expected_devices.

    `expected_devices` is public and was settled before anybody came: rate times devices where the server
    draws them, else the quorum. With nobody's delta it is noise alone, and as good a release as any other.
    """
    require_public_count(expected_devices)
    noisy = add_noise(clipped, noise_multiplier, generator=generator, hardened=True)
    return (noisy[DELTA] / expected_devices).float().numpy()


def require_public_count(expected_devices: float) -> None:
    """Raises InvalidRequest for what cannot be a number of devices."""
    if not 0.0 < expected_devices < math.inf:
        raise InvalidRequest("expected_devices must be a finite number above 0, known before the round")


def _norm(delta: Vector) -> float:
    squares = 0.0
    for start in range(0, len(delta), _PIECE):
        squares += float(np.square(delta[start : start + _PIECE].astype(np.float64)).sum())
    return math.sqrt(squares) if math.isfinite(squares) else math.inf
