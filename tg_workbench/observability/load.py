"""How busy the machine is: its processors over the last while, and its memory."""

from __future__ import annotations

import time

import psutil

LEAST_SECONDS = 1.0


class Load:
    """The machine's load. Processors are measured from one look to the next, a second apart at least."""

    def __init__(self) -> None:
        self._looked, self._busy = time.monotonic(), _busy()
        self._percent = 0.0

    @property
    def memory_percent(self) -> float:
        """The part of the memory that is taken."""
        return float(psutil.virtual_memory().percent)

    @property
    def cpu_percent(self) -> float:
        """The part of their time that the processors were busy; 0 in the first second."""
        looked = time.monotonic()
        if looked - self._looked >= LEAST_SECONDS:
            busy = _busy()
            share = (busy - self._busy) / (looked - self._looked) / (psutil.cpu_count() or 1)
            self._percent = round(100 * min(1.0, max(0.0, share)), 1)
            self._looked, self._busy = looked, busy
        return self._percent


def _busy() -> float:
    """The seconds that all processors were busy since the machine started."""
    times = psutil.cpu_times()
    return float(
        sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    )
