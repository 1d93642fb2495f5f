"""The clipping norm follows its quantile, within the noise that is charged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.adaptive_clipping import MOST_NORM, AdaptiveClip
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.user_level import ClippedDeltas

EXPECTED = 400


def round_of(clip_norm: float, norms: np.ndarray) -> ClippedSum:
    adding = ClippedDeltas(4, clip_norm)
    for norm in norms:
        adding.add(np.array([norm, 0, 0, 0], np.float32))
    return adding.finish()


@pytest.mark.parametrize("first", [0.05, 40.0])
def test_the_norm_finds_the_median(first: float) -> None:
    norms = np.exp(np.random.default_rng(1).normal(size=EXPECTED))  # their median is about 1
    clip = AdaptiveClip.begin(first, 1.0, EXPECTED)
    for _ in range(80):
        clip = clip.after(round_of(clip.clip_norm, norms), EXPECTED)
    assert clip.clip_norm == pytest.approx(float(np.median(norms)), rel=0.25)


def test_both_sums_together_are_the_release_that_is_charged() -> None:
    clip = AdaptiveClip(1.0, count_noise=3.0)
    z = clip.delta_noise(1.5)
    assert z > 1.5
    assert z**-2 + (2 * 3.0) ** -2 == pytest.approx(1.5**-2)  # Andrew et al. 2021, Theorem 1


def test_without_devices_the_update_is_the_papers() -> None:
    clip = AdaptiveClip(2.0, count_noise=1e-9)
    none_below = clip.after(round_of(2.0, np.full(EXPECTED, 9.0)), EXPECTED)
    all_below = clip.after(round_of(2.0, np.full(EXPECTED, 0.1)), EXPECTED)
    assert none_below.clip_norm == pytest.approx(2.0 * math.exp(0.2 * 0.5))
    assert all_below.clip_norm == pytest.approx(2.0 * math.exp(-0.2 * 0.5))


@pytest.mark.parametrize("noise", [0.0, 2.0, 7.0])
def test_noise_that_the_count_uses_up_is_refused(noise: float) -> None:
    with pytest.raises(InvalidRequest, match="twice the noise on the count"):
        AdaptiveClip(1.0, count_noise=1.0).delta_noise(noise)


def test_few_devices_leave_the_deltas_most_of_the_noise() -> None:
    clip = AdaptiveClip.begin(1.0, noise_multiplier=4.0, expected_devices=10)
    assert clip.delta_noise(4.0) == pytest.approx(4.0 / math.sqrt(0.75))


def test_the_norm_stays_within_bounds() -> None:
    clip = AdaptiveClip(MOST_NORM, count_noise=1e-9, learning_rate=1.0)
    assert clip.after(round_of(MOST_NORM, np.full(EXPECTED, 2e6)), EXPECTED).clip_norm == MOST_NORM


def test_a_sum_of_another_norm_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="another norm"):
        AdaptiveClip(1.0, 1.0).release(round_of(2.0, np.ones(3)), 1.0, 3)


def test_it_is_kept_as_json() -> None:
    clip = AdaptiveClip.begin(1.3, 1.0, 100)
    assert AdaptiveClip.from_json(clip.as_json()) == clip
    with pytest.raises(InvalidRequest):
        AdaptiveClip.from_json({"clip_norm": "x"})
