"""Gaussian noise from a generator fit for secrets, added to what was clipped and to nothing else.

53-bit uniforms → Box–Muller in float64. Never seeded, never saved. `hardened` sums four draws (Holohan and
Braghin 2021), which hides the floating-point traces of a single one; the full cure is a discrete Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.randomness import SecureRandom

_BLOCK_PAIRS = 32_768


def secure_gaussian(
    shape: Sequence[int], *, generator: SecureRandom | None = None, hardened: bool = False
) -> Tensor:
    """Independent N(0, 1) numbers in float64."""
    generator = generator or SecureRandom()
    count = math.prod(shape)
    if hardened:
        return _box_muller(4 * count, generator).view(4, *shape).sum(0) / 2
    return _box_muller(count, generator).view(*shape)


def add_noise(
    clipped: ClippedSum,
    noise_multiplier: float,
    *,
    generator: SecureRandom | None = None,
    hardened: bool = False,
) -> dict[str, Tensor]:
    """The clipped sum plus N(0, (noise_multiplier · bound)²) in every coordinate, drawn once."""
    if not isinstance(clipped, ClippedSum):
        raise TypeError("noise can only be added to a ClippedSum: without a bound it promises nothing")
    if not 0.0 <= noise_multiplier < math.inf:
        raise InvalidRequest("noise_multiplier must be a finite number, zero or above")
    sizes = [tensor.numel() for tensor in clipped.tensors.values()]
    drawn = secure_gaussian((sum(sizes),), generator=generator, hardened=hardened)
    drawn = drawn.mul_(noise_multiplier * clipped.bound)
    dtype = next(iter(clipped.tensors.values())).dtype
    noisy = drawn.add_(torch.cat([tensor.flatten() for tensor in clipped.tensors.values()])).to(dtype)
    parts = zip(clipped.tensors.items(), torch.split(noisy, sizes), strict=True)
    return {name: part.view(tensor.shape) for (name, tensor), part in parts}


def noisy_loss(
    clipped: ClippedSum,
    bound: float,
    noise_multiplier: float,
    *,
    generator: SecureRandom | None = None,
    hardened: bool = False,
) -> float:
    """Σᵢ min(max(lossᵢ, 0), bound) + N(0, (noise_multiplier · bound)²).

    One example moves it by `bound` at most. A loss that is no number counts zero, because leaving it out in
    any other way would tell that it was there.
    """
    if not 0.0 < bound < math.inf or not 0.0 <= noise_multiplier < math.inf:
        raise InvalidRequest("a noisy loss needs a bound above 0 and a noise_multiplier ≥ 0, both finite")
    losses = clipped.losses_of_units(bound)
    noise = secure_gaussian((1,), generator=generator, hardened=hardened)
    return float(losses.sum() + noise_multiplier * bound * noise[0])


def _box_muller(count: int, generator: SecureRandom) -> Tensor:
    """Box and Muller 1958, in blocks that stay in the processor's cache."""
    drawn = torch.empty(count + count % 2, dtype=torch.float64)
    for block in drawn.split(2 * _BLOCK_PAIRS):
        pairs = len(block) // 2
        uniforms = generator.uniforms(2 * pairs)
        ones_left = np.subtract(1.0, uniforms[:pairs], out=uniforms[:pairs])  # in (0, 1]: its log is finite
        radius = torch.from_numpy(np.log(ones_left, out=ones_left)).mul_(-2.0).sqrt_()
        angle = torch.from_numpy(uniforms[pairs:]).mul_(2.0 * math.pi)
        torch.mul(radius, angle.cos(), out=block[:pairs])
        torch.mul(radius, angle.sin_(), out=block[pairs:])
    return drawn[:count]
