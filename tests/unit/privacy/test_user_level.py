"""Deltas are clipped one device at a time, added up as they come, and refused when they cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import SecureRandom
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.randomness import ReplayableRandom
from tg_workbench.privacy.user_level import DELTA, ClippedDeltas, Vector, noisy_mean

DRAW = np.random.default_rng(5)
DELTAS = [(scale * DRAW.normal(size=37)).astype(np.float32) for scale in (0.01, 1, 30, 0.2, 4)]


def clipped(deltas: list[Vector], clip_norm: float = 0.8) -> ClippedSum:
    adding = ClippedDeltas(37, clip_norm)
    for delta in deltas:
        adding.add(delta)
    return adding.finish()


def test_the_sum_is_that_of_each_delta_held_to_the_norm() -> None:
    slowly = np.zeros(37)
    for delta in DELTAS:
        wide = delta.astype(np.float64)
        slowly += wide * min(1.0, 0.8 / float(np.linalg.norm(wide)))
    found = clipped(DELTAS)
    np.testing.assert_allclose(found.tensors[DELTA].numpy(), slowly, rtol=3e-6)
    assert (found.bound, found.count, found.num_clipped) == (0.8, 5, 4)


def test_the_same_deltas_in_the_same_order_give_the_same_bits() -> None:
    assert torch.equal(clipped(DELTAS).tensors[DELTA], clipped(DELTAS).tensors[DELTA])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan], ids=["inf", "minus", "nan"])
def test_a_delta_that_is_not_finite_counts_zero(bad: float) -> None:
    broken = DELTAS[0].copy()
    broken[3] = bad
    assert torch.equal(clipped([*DELTAS, broken]).tensors[DELTA], clipped(DELTAS).tensors[DELTA])


def test_a_delta_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="one vector of 37 numbers"):
        ClippedDeltas(37, 1.0).add(np.zeros(36, np.float32))


@pytest.mark.parametrize("norm", [0.0, -1.0, float("inf"), float("nan")], ids=["zero", "minus", "inf", "nan"])
def test_a_norm_that_bounds_nothing_is_refused(norm: float) -> None:
    with pytest.raises(InvalidRequest):
        ClippedDeltas(37, norm)


def test_only_what_was_clipped_gets_noise() -> None:
    with pytest.raises(TypeError, match="ClippedSum"):
        noisy_mean({DELTA: torch.zeros(3)}, 1.0, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, -3, float("inf")], ids=["zero", "minus", "inf"])
def test_a_divisor_is_a_number_of_devices(count: float) -> None:
    with pytest.raises(InvalidRequest, match="expected_devices"):
        noisy_mean(clipped(DELTAS), 1.0, count)


def test_a_round_that_is_done_again_comes_out_the_same_and_with_other_deltas_it_does_not() -> None:
    seed = ReplayableRandom.new_seed()

    def mean(context: bytes) -> Vector:
        return noisy_mean(clipped(DELTAS), 1.0, 5, generator=ReplayableRandom(seed, context))

    assert np.array_equal(mean(b"these"), mean(b"these"))
    assert not np.isclose(mean(b"these"), mean(b"others")).any()
    one, other = (noisy_mean(clipped(DELTAS), 1.0, 5, generator=SecureRandom()) for _ in range(2))
    assert not np.isclose(one, other).any()


def test_a_seed_is_long_enough_and_is_never_shown() -> None:
    with pytest.raises(InvalidRequest, match="32 bytes"):
        ReplayableRandom(b"short", b"")
    seed = ReplayableRandom.new_seed()
    assert seed.hex() not in repr(ReplayableRandom(seed, b""))
