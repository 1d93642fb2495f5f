"""The length of a vector: as float64 has it, however small or large its numbers are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tg_workbench.federation.strategies.mean import BLOCK, length

SIZE = 2 * BLOCK + 3


@pytest.mark.parametrize("scale", [1e-38, 1e-22, 1e-12, 1e-3, 1.0, 1e10, 1e19, 1e20, 1e38])
def test_a_length_is_that_of_float64(scale: float) -> None:
    vector = (np.random.default_rng(0).normal(size=SIZE).clip(-3, 3) * scale).astype(np.float32)
    exact = np.linalg.norm(vector.astype(np.float64))
    assert length(vector) == pytest.approx(exact, rel=1e-6)


def test_nothing_has_no_length() -> None:
    assert length(np.zeros(SIZE, np.float32)) == 0.0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_seen_wherever_it_is(number: float) -> None:
    for place in (0, BLOCK, SIZE - 1):
        vector = np.ones(SIZE, np.float32)
        vector[place] = number
        assert not math.isfinite(length(vector))
