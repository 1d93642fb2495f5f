"""Looks again and again, from a thread of its own, while somebody is there to see what it finds."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watch:
    """Calls `look`, which says in how many seconds it wants to be called again; never twice at once."""

    def __init__(self, look: Callable[[], float], name: str) -> None:
        self._look = look
        self._name = name
        self._wanted = threading.Event()
        self._is_closed = self._is_resting = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        """Whether it looks no more, for good."""
        return self._is_closed

    def start(self) -> None:
        """Begin to look, and go on until `rest` or `close`."""
        with self._lock:
            self._is_resting = False
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def rest(self) -> None:
        """Look no more until `start`: nobody would see it."""
        self._is_resting = True
        self._wanted.set()

    def look_now(self) -> None:
        """Do not wait for the next look."""
        self._wanted.set()

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        self._wanted.set()

    def _run(self) -> None:
        try:
            self._wanted.clear()  # before it asks whether to go on: what is said later is heard by `wait`
            while self._goes_on():
                self._wanted.wait(self._look())
                self._wanted.clear()
        finally:
            with self._lock:  # also after what nobody expected: `start` begins anew
                if self._thread is threading.current_thread():
                    self._thread = None

    def _goes_on(self) -> bool:
        with self._lock:
            if self._is_closed or self._is_resting:
                self._thread = None
                return False
            return True
