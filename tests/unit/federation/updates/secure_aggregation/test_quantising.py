"""Sums of words are sums of numbers, within the bound that the quantiser itself states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation import Quantiser


@settings(max_examples=60, deadline=None)
@given(
    bound=st.floats(1e-3, 1e3),
    devices=st.integers(1, 200),
    dropped=st.integers(0, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_sum_is_as_near_as_stated(bound: float, devices: int, dropped: int, seed: int) -> None:
    stayed = max(1, devices - dropped)
    quantiser = Quantiser(bound, devices)
    vectors = np.random.default_rng(seed).normal(0, bound, (stayed, 30)).astype(np.float32)
    total = np.zeros(30, dtype=np.uint32)
    for vector in vectors:
        total += quantiser.words(vector)
    expected = np.clip(vectors.astype(np.float64), -bound, bound).sum(0)
    assert np.abs(quantiser.numbers(total, stayed) - expected).max() <= quantiser.most_error(stayed)


@pytest.mark.parametrize("devices", [1, 2, 3, 100, 65_536])
def test_the_largest_numbers_of_all_devices_do_not_overflow(devices: int) -> None:
    quantiser = Quantiser(1.0, devices)
    highest = int(quantiser.words(np.full(1, 7.0, dtype=np.float32))[0])
    assert highest == quantiser.levels
    assert highest * devices < 2**32
    assert int(quantiser.words(np.full(1, -7.0, dtype=np.float32))[0]) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_finite_number_is_refused(bad: float) -> None:
    with pytest.raises(SecureAggregationRefused, match="finite"):
        Quantiser(1.0, 3).words(np.array([0.0, bad], dtype=np.float32))


@pytest.mark.parametrize(
    ("bound", "devices"),
    [(0.0, 3), (-1.0, 3), (float("nan"), 3), (float("inf"), 3), (1e30, 3), (1.0, 0), (1.0, 65_537)],
)
def test_a_quantiser_that_cannot_be_is_refused(bound: float, devices: int) -> None:
    with pytest.raises(ValueError, match="a bound"):
        Quantiser(bound, devices)
