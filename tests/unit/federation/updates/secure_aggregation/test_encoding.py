"""Sums of words are weighted means; what one device adds to them is no longer than it may be."""

from __future__ import annotations

import numpy as np
import pytest

from tg_workbench.errors import InvalidField, SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation import Encoding


def deltas(count: int, size: int = 50, scale: float = 0.1) -> list[np.ndarray]:
    drawn = np.random.default_rng(count).normal(0, scale, (count, size))
    return list(drawn.astype(np.float32))


def total_of(encoding: Encoding, vectors: list[np.ndarray], samples: list[int]) -> np.ndarray:
    words = [encoding.words(vector, count) for vector, count in zip(vectors, samples, strict=True)]
    return np.array(words).sum(0, dtype=np.uint32)


def test_the_mean_is_weighted_by_samples() -> None:
    encoding, vectors, samples = Encoding.weighted(5), deltas(5), [40, 1, 700, 99_999, 12]
    mean, counted = encoding.mean_of(total_of(encoding, vectors, samples), 5)
    assert counted == sum(samples)
    expected = np.average(vectors, axis=0, weights=samples)
    assert np.abs(mean - expected).max() <= encoding.most_error(5, counted) + 1e-7


def test_those_who_drop_out_leave_the_mean_of_the_others() -> None:
    encoding, vectors, samples = Encoding.weighted(9), deltas(3), [10, 20, 30]
    mean, counted = encoding.mean_of(total_of(encoding, vectors, samples), 3)
    expected = np.average(vectors, axis=0, weights=samples)
    assert np.abs(mean - expected).max() <= encoding.most_error(3, counted) + 1e-7


def test_nobody_counts_for_more_than_the_most() -> None:
    encoding = Encoding.weighted(3)
    assert encoding.words(np.zeros(2, np.float32), 10**9)[-1] == encoding.most_samples


@pytest.mark.parametrize("scale", [1e-3, 0.3, 100.0])
def test_what_a_device_adds_is_within_the_norm_with_its_rounding(scale: float) -> None:
    encoding = Encoding.clipped(200, 1.0, 5.0)
    for vector in deltas(4, size=4000, scale=scale):
        words = encoding.words(vector, 777)
        assert words[-1] == 1
        assert np.linalg.norm(encoding.sum_of(words, 1)) <= 1.0


def test_a_sum_that_others_turn_around_hides_as_much() -> None:
    encoding = Encoding.clipped(3, 1.0, 1.0)
    honest, noise = encoding.words(np.full(1, 0.5, np.float32), 1), 0.25
    shifted = honest + np.uint32(
        2**32 - int(honest[0]) - 1
    )  # what a liar adds, so that it nearly goes around
    step = 2 * encoding.bound / encoding.quantiser.levels
    before, after = (
        encoding.brought_back(encoding.sum_of(each, 1) + noise) for each in (shifted, shifted + np.uint32(1))
    )
    distance = abs(float(after[0]) - float(before[0]))
    assert min(distance, encoding.whole - distance) <= 2 * step + 1e-5


def test_noise_has_room_beside_the_sum() -> None:
    encoding = Encoding.clipped(4, 2.0, 5.0)
    sums = np.array([8.0, -8.0])
    for noise in (-60.0, 60.0):
        assert encoding.brought_back(sums + noise) == pytest.approx(sums + noise)


@pytest.mark.parametrize("samples", [0, 10**6])
def test_a_sum_of_no_samples_is_refused(samples: int) -> None:
    with pytest.raises(SecureAggregationRefused):
        Encoding.weighted(3).mean_of(np.array([1, samples], np.uint32), 3)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SecureAggregationRefused):
        Encoding.weighted(3).words(np.array([np.nan], np.float32), 1)


def test_what_is_no_encoding_is_refused() -> None:
    assert Encoding.from_json(Encoding.clipped(3, 1.0, 2.0).as_json()) == Encoding.clipped(3, 1.0, 2.0)
    for told in ({}, {"devices": 0}, {"devices": 3, "magic": 1}, {"devices": 60_000, "most_samples": 10**6}):
        with pytest.raises(InvalidField):
            Encoding.from_json(told)
