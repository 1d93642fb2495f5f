"""An allowance: so many lines a minute for what strangers cause. What is beyond is counted, and told once.

Otherwise whoever can reach a workbench could push everything else out of its log.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_LINES = 120
WINDOW_SECONDS = 60.0


class Allowance:
    """A window begins with its first line; all windows are alike."""

    def __init__(self, most: int = MOST_LINES, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._clock = clock
        self._ends = 0.0
        self._used = 0

    def take(self) -> tuple[bool, int]:
        """Whether one more may be written, and how many were not since that was last told."""
        now, left_out = self._clock(), 0
        if now >= self._ends:
            left_out = max(0, self._used - self.most)
            self._ends, self._used = now + WINDOW_SECONDS, 0
        self._used += 1
        return self._used <= self.most, left_out
