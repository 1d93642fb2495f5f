from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tg_workbench.engine.scattering import PATHS, Scattering, ScatteringFront
from tg_workbench.errors import InvalidRequest

Plane = NDArray[Any]


def images(count: int = 3, side: int = 28) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(3))


def gabor(size: int, sigma: float, frequency: float, theta: float) -> Plane:
    """The definition, written down once more: one sum over the places a pixel stands for."""
    plane = np.zeros((size, size), complex)
    rotation = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    curvature = rotation @ np.diag([1.0, 0.25]) @ rotation.T / (2 * sigma**2)
    for row, column in np.ndindex(size, size):
        for down, right in np.ndindex(5, 5):
            place = np.array([row + (down - 2) * size, column + (right - 2) * size])
            phase = frequency * (place @ rotation[:, 0])
            plane[row, column] += np.exp(-place @ curvature @ place + 1j * phase)
    return plane / (2 * math.pi * sigma**2 / 0.5)


def morlet(size: int, scale: int, angle: int) -> Plane:
    sigma, theta = 0.8 * 2**scale, (3 - angle) * math.pi / 8
    wave = gabor(size, sigma, 3 * math.pi / 4 / 2**scale, theta)
    envelope = gabor(size, sigma, 0.0, theta)
    return wave - wave.sum() / envelope.sum() * envelope


def convolved(image: Plane, kernel: Plane) -> Plane:
    """Round the edges, one shift after the other: no Fourier transform."""
    total = np.zeros(image.shape, complex)
    for row, column in np.ndindex(*image.shape):
        total += kernel[row, column] * np.roll(image, (row, column), axis=(0, 1))
    return total


def test_paths_are_what_convolving_pixel_by_pixel_gives() -> None:
    image = images(1, side=8)
    found = Scattering(1, 8, 8)(image)[0].numpy()
    padded = np.pad(image[0, 0].numpy().astype(float), 4, mode="reflect")
    distance = np.minimum(np.arange(16), 16 - np.arange(16))
    bell = np.exp(-(distance**2) / (2 * 1.6**2)) / (math.sqrt(2 * math.pi) * 1.6)
    average = np.outer(bell, bell)

    def averaged(plane: Plane) -> Plane:
        return convolved(plane, average).real[4:12:4, 4:12:4]

    fine, finer = np.abs(convolved(padded, morlet(16, 0, 2))), morlet(16, 1, 5)
    np.testing.assert_allclose(found[0], averaged(padded), atol=1e-5)
    np.testing.assert_allclose(found[1 + 2], averaged(fine), atol=1e-5)
    np.testing.assert_allclose(found[1 + 8 + 5], averaged(np.abs(convolved(padded, finer))), atol=1e-5)
    np.testing.assert_allclose(found[1 + 16 + 2 * 8 + 5], averaged(np.abs(convolved(fine, finer))), atol=1e-5)


def test_an_image_becomes_81_paths_a_quarter_its_size() -> None:
    assert PATHS == 81
    assert Scattering(1, 28, 28)(images()).shape == (3, 81, 7, 7)
    assert Scattering(3, 17, 10)(torch.rand(2, 3, 17, 10)).shape == (2, 243, 5, 3)


def test_an_even_image_has_an_average_and_no_waves() -> None:
    found = Scattering(1, 28, 28)(torch.full((1, 1, 28, 28), 0.5))
    torch.testing.assert_close(found[:, 0], torch.full((1, 7, 7), 0.5))
    assert found[:, 1:].abs().max() < 1e-6


def test_waves_do_not_see_how_bright_an_image_is() -> None:
    scattering = Scattering(1, 28, 28)
    found, brighter = scattering(images()), scattering(images() + 0.3)
    torch.testing.assert_close(found[:, 1:], brighter[:, 1:], atol=1e-5, rtol=0)


def test_scattering_does_not_spread_images_further_apart() -> None:
    scattering = Scattering(1, 28, 28)
    one, other = images(1), images(3)[1:2]
    apart = (one - other).square().mean().item()
    assert (scattering(one) - scattering(other)).square().sum().item() / 49 < apart


def test_a_step_to_the_side_changes_features_less_than_pixels() -> None:
    drawing = torch.zeros(1, 1, 28, 28)
    drawing[..., 8:20, 12:15] = 1.0
    moved = drawing.roll(1, dims=3)
    scattering = Scattering(1, 28, 28)
    here, there = scattering(drawing), scattering(moved)
    assert (here - there).norm() / here.norm() < 0.5 * (drawing - moved).norm() / drawing.norm()


def test_features_of_an_image_do_not_depend_on_the_others() -> None:
    front = ScatteringFront(1, 28, 28)
    together = front(images())
    torch.testing.assert_close(front(images()[1:2])[0], together[1], atol=1e-5, rtol=1e-4)
    assert not list(front.parameters())


def test_groups_of_paths_have_mean_zero_and_variance_one() -> None:
    groups = ScatteringFront(1, 28, 28)(images()).view(3, 27, -1)
    assert groups.mean(-1).abs().max() < 1e-4
    assert groups.var(-1, unbiased=False).max() < 1.0001


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 28, 7), (3, 1, 1)])
def test_image_too_small_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidRequest, match="8×8"):
        Scattering(*shape)
