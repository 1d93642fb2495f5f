"""Gaussian noise from a generator fit for secrets, added to what was clipped and to nothing else.

53-bit uniforms → Box–Muller in float64. Never seeded, never saved. `hardened` sums four draws (Holohan and
Braghin 2021), which hides the floating-point traces of a single one; the full cure is a discrete Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.randomness import SecureRandom

_BLOCK = 65_536


def secure_gaussian(
    shape: Sequence[int], *, generator: SecureRandom | None = None, hardened: bool = False
) -> Tensor:
    """Independent N(0, 1) numbers in float64."""
    drawn = torch.empty(math.prod(shape), dtype=torch.float64)
    for place, block in _blocks(len(drawn), generator or SecureRandom(), hardened):
        drawn[place] = block
    return drawn.view(*shape)


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
    flat = torch.cat([tensor.flatten() for tensor in clipped.tensors.values()])
    noisy = flat.cpu()  # where the generator is; on a CPU this is `flat` itself
    for place, block in _blocks(len(noisy), generator or SecureRandom(), hardened):
        part = noisy[place]
        part.copy_(block.mul_(noise_multiplier * clipped.bound).add_(part.double()))
    parts = zip(clipped.tensors.items(), noisy.to(flat.device).split(sizes), strict=True)
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


def _blocks(count: int, generator: SecureRandom, hardened: bool) -> Iterator[tuple[slice, Tensor]]:
    """`count` independent N(0, 1) numbers, as many at a time as stay in the processor's cache."""
    for start in range(0, count, _BLOCK):
        place = slice(start, min(count, start + _BLOCK))
        wanted = place.stop - start
        if hardened:
            draws = [_box_muller(wanted, generator) for _ in range(4)]
            yield place, torch.stack(draws).sum(0).div_(2.0)
        else:
            yield place, _box_muller(wanted, generator)


def _box_muller(count: int, generator: SecureRandom) -> Tensor:
    """Box and Muller 1958: two uniforms make two numbers."""
    pairs = (count + 1) // 2
    drawn = torch.from_numpy(generator.uniforms(2 * pairs))
    radius, angle = drawn[:pairs], drawn[pairs:]
    radius.neg_().add_(1.0)  # in (0, 1]: its logarithm is finite
    radius.log_().mul_(-2.0).sqrt_()
    across = angle.mul_(2.0 * math.pi).cos()
    angle.sin_().mul_(radius)
    radius.mul_(across)
    return drawn[:count]
