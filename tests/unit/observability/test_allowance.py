"""An allowance lets so many lines pass in a minute, and counts the others."""

from __future__ import annotations

from tg_workbench.observability.allowance import Allowance


def test_what_is_beyond_is_counted_and_told_once_when_the_minute_is_over() -> None:
    times = [0.0] * 10 + [59.0, 60.0, 61.0, 200.0]
    left = iter(times)
    allowance = Allowance(3, lambda: next(left))
    taken = [allowance.take() for _ in times]
    assert taken[:11] == [(True, 0)] * 3 + [(False, 0)] * 8
    assert taken[11:] == [(True, 8), (True, 0), (True, 0)]
