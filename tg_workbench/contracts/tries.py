"""Tries: how many passwords were tried lately, by whom they were for.

The memory is bounded: whoever was tried longest ago is forgotten, but never one who may be tried no more, or
many names would be a way past one. Those are few: each has cost as many passwords as it takes to get there.
"""

from __future__ import annotations

import time
from collections import OrderedDict

MOST_TRIES = 20
WINDOW_SECONDS = 900
MOST_NAMES = 10_000


class Tries:
    """The tries of one kind of name."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, list[float]] = OrderedDict()
        self._shut: OrderedDict[str, list[float]] = OrderedDict()

    def seconds_left(self, who: str) -> float:
        """How long until another password may be tried; 0 when it may be now."""
        tries = self._shut.get(who)
        if tries is None:
            return 0.0
        left = tries[0] + WINDOW_SECONDS - time.monotonic()
        if left > 0:
            return left
        self._open[who] = self._shut.pop(who)
        return 0.0

    def note(self, who: str) -> None:
        """One more."""
        now = time.monotonic()
        tries = [at for at in self._open.pop(who, []) if at > now - WINDOW_SECONDS]
        tries.append(now)
        (self._shut if len(tries) >= MOST_TRIES else self._open)[who] = tries
        self._forget(now)

    def forgive(self, who: str) -> None:
        """Forget them: the right password came."""
        self._open.pop(who, None)
        self._shut.pop(who, None)

    def __len__(self) -> int:
        return len(self._open) + len(self._shut)

    def _forget(self, now: float) -> None:
        if len(self._open) > MOST_NAMES:
            self._open.popitem(last=False)
        while self._shut and next(iter(self._shut.values()))[-1] <= now - WINDOW_SECONDS:
            self._shut.popitem(last=False)
