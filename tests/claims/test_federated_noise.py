"""Is a round's noise what its devices' ε was computed for? By distribution, and against the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tg_workbench.privacy import curves
from tg_workbench.privacy.adaptive_clipping import AdaptiveClip
from tg_workbench.privacy.tree_noise import grow
from tg_workbench.privacy.tree_plans import TreePlan
from tg_workbench.privacy.trees import Tree
from tg_workbench.privacy.user_level import ClippedDeltas, Vector, noisy_mean

RARE = 1e-6
"""A test of chance that is below this has found something: it happens by itself once in a million runs."""
SIZE, CLIP, NOISE, DEVICES = 40_000, 0.7, 1.3, 9.0


def deltas(count: int, scale: float = 3.0) -> list[Vector]:
    draw = np.random.default_rng(count)
    return [(scale * draw.normal(size=SIZE)).astype(np.float32) for _ in range(count)]


def adding(vectors: list[Vector], clip_norm: float = CLIP) -> ClippedDeltas:
    summed = ClippedDeltas(len(vectors[0]) if vectors else SIZE, clip_norm)
    for vector in vectors:
        summed.add(vector)
    return summed


@pytest.mark.parametrize("came", [0, 1, 5])
def test_noise_has_the_multiplier_times_the_norm_over_the_public_number_of_devices(came: int) -> None:
    clipped = adding(deltas(came)).finish()
    mean = noisy_mean(clipped, NOISE, DEVICES).astype(np.float64)
    noise = mean - clipped.tensors["delta"].numpy() / DEVICES
    assert stats.kstest(noise / (NOISE * CLIP / DEVICES), "norm").pvalue > RARE


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_no_device_moves_the_sum_further_than_the_norm(scale: float) -> None:
    others, one = deltas(4), deltas(1, scale)
    without, with_it = (adding(v).finish().tensors["delta"].numpy() for v in (others, [*others, *one]))
    assert np.linalg.norm(with_it - without) <= CLIP


def test_one_more_device_is_as_hard_to_tell_as_the_accountant_says() -> None:
    """Devices that push as hard as they may, in one direction: the mean shifts by 1 / noise at most."""
    push = np.array([100.0], np.float32)
    runs = 4000
    shifted = np.array([noisy_mean(adding([push]).finish(), NOISE, DEVICES)[0] for _ in range(runs)])
    alone = np.array([noisy_mean(ClippedDeltas(1, CLIP).finish(), NOISE, DEVICES)[0] for _ in range(runs)])
    scale = NOISE * CLIP / DEVICES
    assert stats.kstest(alone / scale, "norm").pvalue > RARE
    assert stats.kstest(shifted / scale - 1 / NOISE, "norm").pvalue > RARE


def test_adaptive_rounds_draw_both_noises_that_make_up_the_charge() -> None:
    clip = AdaptiveClip(CLIP, count_noise=2.0, learning_rate=0.01)
    nobody = ClippedDeltas(3 * SIZE, CLIP).finish()  # so many that a noise smaller by 6 % never passes
    mean, _ = clip.release(nobody, NOISE, DEVICES)
    drawn_with = (NOISE**-2 - (2 * 2.0) ** -2) ** -0.5
    assert stats.kstest(mean / (drawn_with * CLIP / DEVICES), "norm").pvalue > RARE
    tiny, many = ClippedDeltas(1, CLIP).finish(), 1000.0  # so many that no fraction is cut to 0 … 1
    norms = np.array([clip.after(tiny, many).clip_norm for _ in range(3000)])
    counted = -np.log(norms / CLIP) / 0.01 * many  # Σ (bᵢ - ½) + noise, nobody having come
    assert stats.kstest(counted / 2.0, "norm").pvalue > RARE


def counted(*vectors: Vector) -> float:
    """What the round's devices come to in the count, but for its noise."""
    clip = AdaptiveClip(CLIP, count_noise=1e-6)
    return -math.log(clip.after(adding(list(vectors)).finish(), 10.0).clip_norm / CLIP) / 0.2 * 10.0


def test_one_device_moves_the_count_by_a_half() -> None:
    short, long = deltas(1, 1e-9), deltas(1, 9.0)
    assert [counted(), counted(*short), counted(*long)] == pytest.approx([0.0, 0.5, -0.5], abs=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 9.0])
def test_a_delta_and_none_at_all_are_as_far_apart_as_is_charged(scale: float) -> None:
    """`zero_out_one`: what is hidden of a delta is that it was not zeros."""
    others, one, zeros = deltas(3, 9.0), deltas(1, scale), deltas(1, 0.0)
    assert abs(counted(*others, *one) - counted(*others, *zeros)) <= 0.5 + 1e-3
    sums = [adding([*others, *each]).finish().tensors["delta"].numpy() for each in (one, zeros)]
    assert np.linalg.norm(sums[0] - sums[1]) <= CLIP


def test_a_prefix_of_a_tree_carries_the_noise_of_its_nodes_and_shares_them() -> None:
    """Covariance of prefixes against the slow way: how many nodes two prefixes have in common."""
    steps, size = 7, 60_000
    tree = Tree.begin(TreePlan(steps), NOISE, CLIP)
    prefixes, total = [], np.zeros(size)
    for step in range(steps):
        moved, tree = grow(tree, ClippedDeltas(size, CLIP).finish(), str(step).encode(), DEVICES)
        total = total + moved.astype(np.float64)
        prefixes.append(total / (NOISE * CLIP / DEVICES))
    found = np.cov(np.array(prefixes))
    sets = [nodes(step) for step in range(1, steps + 1)]
    expected = np.array([[len(a & b) for b in sets] for a in sets], float)
    assert np.abs(found - expected).max() < 6 * 3 * math.sqrt(2 / size)
    assert stats.kstest(prefixes[6] / math.sqrt(3), "norm").pvalue > RARE


def nodes(step: int) -> set[int]:
    """The steps that complete the nodes of a prefix."""
    found = set()
    while step:
        found.add(step)
        step -= step & -step
    return found


def test_what_a_tree_hands_out_costs_what_is_charged() -> None:
    """The slow way: all that is released is A x + B z, z standard normal; a device moves it by this much."""
    plan = TreePlan(11, participations=2, separation=3)
    sums = np.tril(np.ones((11, 11)))
    noise = np.zeros((11, 11))
    for step in range(1, 12):
        noise[step - 1, [node - 1 for node in nodes(step)]] = NOISE
    weights = np.linalg.solve(noise, sums)
    worst = 0.0
    for first in range(11):
        for second in (None, *range(first + 3, 11)):
            joined = np.zeros(11)
            joined[[first] if second is None else [first, second]] = 1.0
            worst = max(worst, float(np.linalg.norm(weights @ joined)))
    charged = curves.gaussian_epsilon(1 / plan.as_one_step(NOISE).noise_multiplier, 1e-5)
    assert curves.gaussian_epsilon(worst, 1e-5) <= charged * (1 + 1e-9)
    once = float(np.linalg.norm(weights @ np.eye(11)[0]))
    assert 1 / TreePlan(11).as_one_step(NOISE).noise_multiplier == pytest.approx(once)
