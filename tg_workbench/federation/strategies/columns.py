"""Order statistics of each coordinate over all updates, block by block, so that memory stays bounded.

A block is sorted by Batcher's merge exchange (Knuth, The Art of Computer Programming, volume 3, 5.2.2,
Algorithm M): a fixed list of comparisons, each of which is one minimum and one maximum of two whole rows.
What no wanted row depends on is left out. That is several times as fast as sorting columns one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector

MOST_BY_NETWORK = 96
"""Rows: with more of them the network grows faster than sorting does."""
NUMBERS = 1 << 18
"""How many numbers are held at a time, over all rows: 1 MiB."""
Exchange = tuple[int, int, bool, bool]
"""Rows i < j, and whether the smaller (then in i) and the larger (then in j) are of use."""


def of_columns(
    rows: Sequence[Vector], low: int, high: int, reduce: Callable[[Sequence[Vector]], Vector]
) -> Vector:
    """`reduce` of the low-th to the (high − 1)-th smallest number of each column, low counted from 0."""
    import numpy as np

    size = len(rows[0])
    found = np.empty(size, dtype=np.float32)
    width = max(1024, NUMBERS // (len(rows) + 1))
    for start in range(0, size, width):
        block = [row[start : start + width] for row in rows]
        found[start : start + width] = reduce(_ranked(block, low, high))
    return found


def _ranked(block: list[Vector], low: int, high: int) -> Sequence[Vector]:
    """The low-th to the (high − 1)-th row of the block with each column sorted."""
    import numpy as np

    if len(block) > MOST_BY_NETWORK:
        return list(np.sort(np.stack(block), axis=0)[low:high])
    held = np.empty((len(block) + 1, len(block[0])), dtype=np.float32)
    np.stack(block, out=held[:-1])
    rows, spare = list(held[:-1]), held[-1]
    for i, j, smaller, larger in exchanges(len(rows), low, high):
        if smaller:
            np.minimum(rows[i], rows[j], out=spare)
        if larger:
            np.maximum(rows[i], rows[j], out=rows[j])
        if smaller:
            rows[i], spare = spare, rows[i]
    return rows[low:high]


@lru_cache(maxsize=64)
def exchanges(count: int, low: int, high: int) -> tuple[Exchange, ...]:
    """The comparisons after which rows low to high − 1 of `count` rows are where sorting puts them."""
    wanted, kept = set(range(low, high)), []
    for i, j in reversed(_merge_exchange(count)):
        if i in wanted or j in wanted:
            kept.append((i, j, i in wanted, j in wanted))
            wanted |= {i, j}
    return tuple(reversed(kept))


def _merge_exchange(count: int) -> list[tuple[int, int]]:
    """Algorithm M, for any count."""
    found: list[tuple[int, int]] = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            found += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return found
