"""A curve's history of bounded size: every point at first, later the extremes of equal stretches.

However long a run is, about `capacity` points remain, spread evenly over it; no peak is lost, and the first
and the newest points are always there as they came.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

_PAIR = 2


class History:
    """The points of one series, in ascending x."""

    def __init__(self, capacity: int = 8192) -> None:
        if capacity < 2 * _PAIR:
            raise ValueError("a history needs room for at least 4 points")
        self._capacity = capacity
        self._x, self._y = array("d"), array("d")
        self._tail_x, self._tail_y = array("d"), array("d")
        self._newest: tuple[float, float] | None = None
        self._stride = 1

    def __len__(self) -> int:
        return len(self.columns()[0])

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(*self.columns(), strict=True))

    @property
    def is_thinned(self) -> bool:
        """Whether older points were merged, so that not every point is kept any more."""
        return self._stride > 1

    def columns(self) -> tuple[array[float], array[float]]:
        """All points that are kept: x ascending, and their y."""
        x, y = self._x + self._tail_x, self._y + self._tail_y
        if self._newest is not None and (not x or x[-1] < self._newest[0]):
            x.append(self._newest[0])
            y.append(self._newest[1])
        return x, y

    def extend(self, x: Iterable[float], y: Iterable[float]) -> bool:
        """Add points; True when older ones had to go, so that a copy elsewhere is out of date.

        An x at or before the last one means that the run went back (it resumed from a checkpoint): the points
        from there on are forgotten.
        """
        changed = False
        for one_x, one_y in zip(x, y, strict=True):
            changed |= self._rewind(one_x)
            self._tail_x.append(one_x)
            self._tail_y.append(one_y)
            self._newest = (one_x, one_y)
            if len(self._tail_x) >= _PAIR * self._stride:
                self._settle()
            if len(self._x) >= self._capacity:
                self._halve()
                changed = True
        return changed

    def clear(self) -> None:
        """Forget everything."""
        for column in (self._x, self._y, self._tail_x, self._tail_y):
            del column[:]
        self._newest = None
        self._stride = 1

    def _rewind(self, x: float) -> bool:
        last = self._newest[0] if self._newest is not None else -math.inf
        if x > last:
            return False
        for xs, ys in ((self._x, self._y), (self._tail_x, self._tail_y)):
            keep = bisect_left(xs, x)
            del xs[keep:], ys[keep:]
        return True

    def _settle(self) -> None:
        if self._stride == 1:
            self._x += self._tail_x
            self._y += self._tail_y
        else:
            _append_extremes(self._tail_x, self._tail_y, self._x, self._y)
        del self._tail_x[:], self._tail_y[:]

    def _halve(self) -> None:
        x, y = self._x[:1], self._y[:1]
        for start in range(1, len(self._x), 2 * _PAIR):
            stretch = slice(start, start + 2 * _PAIR)
            _append_extremes(self._x[stretch], self._y[stretch], x, y)
        self._x, self._y = x, y
        self._stride *= 2


def _append_extremes(x: array[float], y: array[float], to_x: array[float], to_y: array[float]) -> None:
    """Keep the lowest and the highest point of a stretch, in their order."""
    finite = [index for index, value in enumerate(y) if math.isfinite(value)] or [0]
    lowest, highest = min(finite, key=y.__getitem__), max(finite, key=y.__getitem__)
    for index in sorted({lowest, highest}):
        to_x.append(x[index])
        to_y.append(y[index])
