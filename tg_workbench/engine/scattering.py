"""Scattering: fixed features of an image, made of wavelets and moduli. What is not learned costs no privacy.

Each image is taken by itself, so an example stays one example. Order 2 (Bruna and Mallat 2013), with the
Morlet filters that Kymatio and Tramèr and Boneh (2021) use, then a group norm without parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tg_workbench.errors import InvalidRequest

SCALES = 2
"""J: an image is averaged over 2^J pixels, and is 2^J times smaller after that."""
ANGLES = 8
"""L: how many directions the wavelets of one scale look in."""
PATHS = 1 + SCALES * ANGLES + ANGLES**2 * SCALES * (SCALES - 1) // 2
"""Channels out for each channel in: 1 average, J·L of one wavelet, L²·J(J-1)/2 of two; 81."""
GROUP_PATHS = 3
"""Paths that are normalised together: 27 groups of 3, as Tramèr and Boneh found best."""
SMALLEST_SIDE = 8
CACHE_NUMBERS = 1 << 19
"""How many numbers of paths are computed at once: 2 MiB, and twice that as complex numbers."""
_WIDTH = 0.8
"""σ of the finest filter, in pixels."""
_PADDING = 2**SCALES


class Scattering(nn.Module):
    """[examples, channels, height, width] → [examples, 81 · channels, ⌈height / 4⌉, ⌈width / 4⌉]."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        """The filters for images of one size. Raises InvalidRequest for those below 8×8 pixels."""
        super().__init__()
        if min(height, width) < SMALLEST_SIDE:
            raise InvalidRequest("scattering needs an input_shape of channels × height × width, at least 8×8")
        self.output_shape = (PATHS * channels, *(math.ceil(side / 2**SCALES) for side in (height, width)))
        # A last stride that the image does not fill is padded too: every pixel is seen by some average.
        self._pads = tuple(
            pad for side in (width, height) for pad in (_PADDING, _PADDING + (-side) % 2**SCALES)
        )
        rows, columns = height + sum(self._pads[2:]), width + sum(self._pads[:2])
        self.numbers = PATHS * channels * rows * columns
        """How many numbers one image is while its paths are computed."""
        self._at_once = max(1, CACHE_NUMBERS // (PATHS * rows * columns))
        wavelets = [[_morlet(rows, columns, j, angle) for angle in range(ANGLES)] for j in range(SCALES)]
        for j, of_one_scale in enumerate(wavelets):
            spectrum = torch.fft.fft2(torch.stack(of_one_scale)).real.float()
            self.register_buffer(f"wavelets_{j}", spectrum, persistent=False)
        self.register_buffer("rows", _averages(rows), persistent=False)
        self.register_buffer("columns", _averages(columns).T.contiguous(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The paths of every channel: average, one wavelet (scale, angle), two (coarser last)."""
        padded = F.pad(images, self._pads, mode="reflect").flatten(0, 1)
        averaged = [self._averaged(planes) for planes in padded.split(self._at_once)]
        return torch.cat(averaged).view(len(images), *self.output_shape)

    def _averaged(self, planes: Tensor) -> Tensor:
        """[planes, rows, columns] → [planes, 81, …]: as few planes at a time as a cache holds."""
        spectrum = torch.fft.fft2(planes)
        first = [self._moduli(spectrum.unsqueeze(1), j) for j in range(SCALES)]
        paths = [planes.unsqueeze(1), *first]
        for j, moduli in enumerate(first[:-1]):
            again = torch.fft.fft2(moduli).unsqueeze(2)
            paths += [self._moduli(again, coarser).flatten(1, 2) for coarser in range(j + 1, SCALES)]
        averaged: Tensor = self.get_buffer("rows") @ torch.cat(paths, dim=1) @ self.get_buffer("columns")
        return averaged

    def _moduli(self, spectrum: Tensor, scale: int) -> Tensor:
        """|image ⋆ ψ| for each angle of a scale. Not averaged yet.

        √(re² + im²), in a quarter of the time of `abs`, which minds numbers that no image makes.
        """
        waves = torch.view_as_real(torch.fft.ifft2(spectrum * self.get_buffer(f"wavelets_{scale}")))
        real, imaginary = waves.unbind(-1)
        return real.square().addcmul_(imaginary, imaginary).sqrt_()


class ScatteringFront(nn.Module):
    """Scattering features, each group of 3 paths of each example held to mean 0 and variance 1."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        """The front for images of one size. Raises InvalidRequest for those below 8×8 pixels."""
        super().__init__()
        self.scattering = Scattering(channels, height, width)
        self.output_shape = self.scattering.output_shape
        self.numbers = self.scattering.numbers
        self.norm = nn.GroupNorm(self.output_shape[0] // GROUP_PATHS, self.output_shape[0], affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """[examples, 81 · channels, height / 4, width / 4]: of each example by itself."""
        normed: Tensor = self.norm(self.scattering(images))
        return normed


def _morlet(rows: int, columns: int, scale: int, angle: int) -> Tensor:
    """A Gabor wave less as much of its envelope as makes it sum to zero, in pixels, float64."""
    width, frequency = _WIDTH * 2**scale, 3 / 4 * math.pi / 2**scale
    turn = (ANGLES // 2 - 1 - angle) * math.pi / ANGLES
    wave = _gabor(rows, columns, width, frequency, turn)
    envelope = _gabor(rows, columns, width, 0.0, turn)
    return wave - wave.sum() / envelope.sum() * envelope


def _gabor(rows: int, columns: int, width: float, frequency: float, turn: float) -> Tensor:
    """A plane wave under a Gaussian, angles / 4 times as wide across the wave, wrapped round the edges."""
    slant = 4 / ANGLES
    total = torch.zeros(rows, columns, dtype=torch.complex128)
    for down in range(-2, 3):
        for right in range(-2, 3):
            y = torch.arange(rows, dtype=torch.float64)[:, None] + down * rows
            x = torch.arange(columns, dtype=torch.float64)[None, :] + right * columns
            along = y * math.cos(turn) + x * math.sin(turn)
            across = x * math.cos(turn) - y * math.sin(turn)
            decay = -(along**2 + slant**2 * across**2) / (2 * width**2)
            total += torch.exp(torch.complex(decay, frequency * along))
    gabor: Tensor = total * slant / (2 * math.pi * width**2)
    return gabor


def _averages(side: int) -> Tensor:
    """[averages, side]: Gaussian means at every 2^J-th pixel of a padded side, the padding left out."""
    width = _WIDTH * 2 ** (SCALES - 1)
    centres = torch.arange(_PADDING, side - _PADDING, 2**SCALES, dtype=torch.float64)
    distance = torch.arange(side, dtype=torch.float64)[None, :] - centres[:, None]
    wrapped = sum(torch.exp(-((distance + turn * side) ** 2) / (2 * width**2)) for turn in range(-2, 3))
    assert isinstance(wrapped, Tensor)  # noqa: S101  (a sum of five)
    averages: Tensor = wrapped / (math.sqrt(2 * math.pi) * width)
    return averages.float()
