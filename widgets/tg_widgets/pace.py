"""Doing something often, but not too often: now or soon, and always once more after the last request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Calls `act` when asked, at most once every `seconds`; what is asked meanwhile is done at their end.

    `act` runs in the thread that asked, or in a timer's; never in two at once.
    """

    def __init__(self, act: Callable[[], object], seconds: float = 0.1) -> None:
        self._act = act
        self._seconds = seconds
        self._last = float("-inf")
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()

    def ask(self) -> None:
        """Act now, or as soon as the pace allows."""
        with self._lock:
            wait = self._last + self._seconds - time.monotonic()
            if wait <= 0:
                self.now()
            elif self._timer is None:
                self._timer = threading.Timer(wait, self.now)
                self._timer.daemon = True
                self._timer.start()

    def now(self) -> None:
        """Act at once; this does what was put off too."""
        with self._lock:
            self.stop()
            self._last = time.monotonic()
            self._act()

    def stop(self) -> None:
        """Forget what was put off."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
