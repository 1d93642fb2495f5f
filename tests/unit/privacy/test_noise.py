from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from torch import nn

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum, clip
from tg_workbench.privacy.noise import add_noise, secure_gaussian


def clipped() -> ClippedSum:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    return clip(model, lambda: model(x).sum(1), 1.0)


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (2, 3)])
def test_noise_has_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    for hardened in (False, True):
        drawn = secure_gaussian(shape, hardened=hardened)
        assert drawn.shape == shape
        assert drawn.dtype == torch.float64


def test_noise_is_added_only_to_a_clipped_sum() -> None:
    with pytest.raises(TypeError, match="ClippedSum"):
        add_noise(cast(Any, {"weight": torch.zeros(3)}), 1.0)


def test_clipped_sum_is_made_only_by_clip() -> None:
    with pytest.raises(TypeError, match="only clip"):
        ClippedSum({}, 1.0, 0, torch.zeros(0), torch.zeros(0), made_by=object())


def test_noise_keeps_names_shapes_and_types() -> None:
    summed = clipped()
    noisy = add_noise(summed, 1.0)
    assert {n: (t.shape, t.dtype) for n, t in noisy.items()} == {
        n: (t.shape, t.dtype) for n, t in summed.tensors.items()
    }
    assert all(torch.equal(add_noise(summed, 0.0)[n], t) for n, t in summed.tensors.items())


@pytest.mark.parametrize("noise", [-1.0, math.nan, math.inf])
def test_noise_multiplier_nobody_can_draw_is_refused(noise: float) -> None:
    with pytest.raises(InvalidRequest):
        add_noise(clipped(), noise)
