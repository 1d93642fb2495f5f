from __future__ import annotations

import math
from itertools import pairwise

import pytest
from tg_widgets.history import History


def test_a_short_history_keeps_every_point() -> None:
    history = History(64)
    history.extend(range(50), range(50))
    assert list(history) == [(n, n) for n in range(50)]
    assert not history.is_thinned


@pytest.mark.parametrize("count", [100, 1_000, 50_000])
def test_a_long_history_stays_bounded_and_spread_evenly(count: int) -> None:
    history = History(256)
    history.extend(range(count), [math.sin(n / 40) for n in range(count)])
    x, _ = history.columns()
    gaps = [later - earlier for earlier, later in pairwise(x)]
    assert len(x) <= 256 + 4 * count / 256 + 2
    assert max(gaps) <= 8 * count / 256 + 2


def test_a_long_history_keeps_its_first_its_last_and_its_peak() -> None:
    history = History(128)
    history.extend(range(20_001), [9.0 if n == 7_777 else 1.0 for n in range(20_001)])
    points = list(history)
    assert points[0] == (0.0, 1.0)
    assert points[-1] == (20_000.0, 1.0)
    assert (7_777.0, 9.0) in points


def test_x_only_grows_whatever_was_thinned() -> None:
    history = History(32)
    for n in range(5_000):
        history.extend([n], [-n])
    x, _ = history.columns()
    assert list(x) == sorted(set(x))


def test_going_back_replaces_what_came_after() -> None:
    history = History(64)
    history.extend(range(20), [0.0] * 20)
    assert history.extend([10, 11], [5.0, 5.0])
    assert list(history)[-3:] == [(9, 0.0), (10, 5.0), (11, 5.0)]


def test_going_back_works_after_thinning_too() -> None:
    history = History(32)
    history.extend(range(1_000), [0.0] * 1_000)
    history.extend([500], [5.0])
    x, y = history.columns()
    assert (x[-1], y[-1]) == (500.0, 5.0)
    assert max(x) == 500.0


def test_points_that_are_no_numbers_do_not_hide_their_neighbours() -> None:
    history = History(8)
    history.extend(range(100), [math.nan if n % 2 else 3.0 for n in range(100)])
    assert 3.0 in {y for _, y in history}


@pytest.mark.parametrize("count", [10_000, 16_384, 100_000])
def test_a_long_history_ends_with_its_newest_point(count: int) -> None:
    history = History(capacity=512)
    for x in range(count):
        history.extend([x], [math.sin(x)])
    assert list(history)[-1] == (count - 1, math.sin(count - 1))
    history.extend([count // 2], [7.0])
    assert list(history)[-1] == (count // 2, 7.0)
