"""What the robust rules hold against, and that they are what their papers say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tg_workbench.errors import InvalidField, TooFewUpdates
from tg_workbench.federation.strategies import Outcome, Update, Vector, named
from tg_workbench.federation.strategies.columns import exchanges, of_columns
from tg_workbench.federation.strategies.median import median
from tg_workbench.federation.strategies.multi_krum import scores

AGAINST_TWO: dict[str, dict[str, Any]] = {"multi-krum": {"malicious": 2}, "trimmed-mean": {"cut": 0.2}}
STACKS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 30)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


def round_of(name: str, deltas: list[Vector], **options: object) -> Outcome:
    aggregation = named(name, **options).begin(np.zeros(len(deltas[0]), np.float32), {})
    for delta in deltas:
        aggregation.add(Update(delta, 1.0))
    return aggregation.finish()


def honest(count: int, size: int = 500) -> list[Vector]:
    rng = np.random.default_rng(3)
    return [(1.0 + rng.normal(scale=0.1, size=size)).astype(np.float32) for _ in range(count)]


@given(STACKS)
@settings(deadline=None)
def test_the_median_is_numpys(stack: Vector) -> None:
    expected = np.median(stack.astype(np.float64), axis=0)
    np.testing.assert_allclose(median(list(stack)), expected, rtol=1e-6, atol=1e-38)


@given(STACKS, st.data())
@settings(deadline=None)
def test_the_middle_rows_of_columns_are_those_of_sorting(stack: Vector, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(stack) - 1))
    high = data.draw(st.integers(low + 1, len(stack)))
    for n in range(low, high):
        found = of_columns(list(stack), low, high, lambda rows, n=n: rows[n - low])
        assert np.array_equal(found, np.sort(stack, axis=0)[n])


@pytest.mark.parametrize("count", [1, 2, 3, 16, 95, 96, 97, 130])
def test_any_number_of_devices_is_sorted_whichever_way(count: int) -> None:
    stack = np.random.default_rng(count).normal(size=(count, 5_000)).astype(np.float32)
    found = of_columns(list(stack), 0, count, lambda rows: rows[count // 3])
    assert np.array_equal(found, np.sort(stack, axis=0)[count // 3])


def test_what_the_median_does_not_need_is_not_compared() -> None:
    assert len(exchanges(20, 9, 11)) < len(exchanges(20, 0, 20))


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "multi-krum"])
def test_a_robust_rule_stays_with_the_honest(name: str) -> None:
    liars = [np.full(500, 1e30, np.float32), np.full(500, -1e30, np.float32)]
    options = AGAINST_TWO.get(name, {})
    moved = round_of(name, [*honest(9), *liars], **options).parameters
    assert np.abs(moved - 1.0).max() < 0.5


def test_a_mean_goes_where_one_liar_wants_it() -> None:
    assert np.abs(round_of("fedavg", [*honest(9), np.full(500, 1e30, np.float32)]).parameters).min() > 1e28


def test_trimming_cuts_off_the_stated_part() -> None:
    deltas = [np.full(4, x, np.float32) for x in (1e20, 1.0, 2.0, 6.0, -1e20)]
    found = round_of("trimmed-mean", deltas, cut=0.2)
    assert found.parameters.tolist() == [3.0] * 4
    assert found.figures["cut_each_side"] == 1.0


def test_a_part_that_is_a_whole_number_of_devices_is_that_many() -> None:
    strategy = named("trimmed-mean", cut=1 / 49)
    assert strategy.fewest == 49
    assert round_of("trimmed-mean", honest(49, 3), cut=1 / 49).figures["cut_each_side"] == 1.0


def test_krum_scores_are_the_papers() -> None:
    deltas = honest(7, 50)
    wide = [delta.astype(np.float64) for delta in deltas]
    expected = [
        sum(sorted(float(np.sum((one - other) ** 2)) for m, other in enumerate(wide) if m != n)[:4])
        for n, one in enumerate(wide)
    ]
    np.testing.assert_allclose(scores(deltas, 4), expected, rtol=1e-9)


def test_krum_with_one_selected_gives_back_one_update_as_it_is() -> None:
    deltas = [*honest(6), np.full(500, 9.0, np.float32)]
    found = round_of("multi-krum", deltas, malicious=1, selected=1).parameters
    assert any(np.array_equal(found, delta) for delta in deltas[:6])


@pytest.mark.parametrize("malicious", [0, 1, 2, 5])
def test_krum_takes_more_than_twice_its_liars_and_two(malicious: int) -> None:
    with pytest.raises(TooFewUpdates):
        round_of("multi-krum", honest(2 * malicious + 2, 5), malicious=malicious)
    assert round_of("multi-krum", honest(2 * malicious + 3, 5), malicious=malicious).figures["selected"] >= 1


def test_krum_averages_no_more_updates_than_can_be_honest() -> None:
    deltas = [*honest(6, 5), np.full(5, 1e6, np.float32)]
    with pytest.raises(TooFewUpdates):
        round_of("multi-krum", deltas, malicious=1, selected=7)
    assert np.abs(round_of("multi-krum", deltas, malicious=1, selected=6).parameters).max() < 1e3


def test_a_long_update_is_scaled_to_the_bound_or_left_out() -> None:
    short, long = np.array([0.3, 0.4], np.float32), np.array([30.0, 40.0], np.float32)
    scaled = round_of("norm-bound", [short, long], bound=1.0)
    assert scaled.parameters.tolist() == pytest.approx([(0.3 + 0.6) / 2, (0.4 + 0.8) / 2])
    assert (scaled.figures["scaled"], scaled.figures["refused"]) == (1.0, 0.0)
    refused = round_of("norm-bound", [short, long], bound=1.0, refuse=True)
    assert refused.parameters.tolist() == pytest.approx([0.3, 0.4])
    assert (refused.figures["scaled"], refused.figures["refused"]) == (0.0, 1.0)


def test_no_model_comes_of_updates_all_of_which_are_left_out() -> None:
    with pytest.raises(TooFewUpdates):
        round_of("norm-bound", [np.full(4, 9.0, np.float32)], bound=1.0, refuse=True)


def test_no_update_moves_the_model_by_more_than_its_share_of_the_bound() -> None:
    boosted = [*[np.zeros(500, np.float32)] * 9, np.full(500, 1e30, np.float32)]
    assert round_of("norm-bound", boosted, bound=2.0).figures["step_norm"] == pytest.approx(0.2, rel=1e-5)


def test_half_of_the_devices_cannot_be_cut_on_each_side() -> None:
    with pytest.raises(InvalidField, match="cut"):
        named("trimmed-mean", cut=0.5)
