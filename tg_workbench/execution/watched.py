"""Watched values: whether somebody still renews something, told without trusting the wall clock."""

from __future__ import annotations

import time
from collections.abc import Set


class Watched:
    """For how long each of some values has not changed, on this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, float]] = {}

    def seconds(self, key: str, value: object) -> float:
        """How long `key` has had this value; 0 when it is new."""
        known, since = self._seen.get(key, (None, 0.0))
        if known != value:
            self._seen[key] = (value, time.monotonic())
            return 0.0
        return time.monotonic() - since

    def keep(self, keys: Set[str]) -> None:
        """Forget what is not among `keys`."""
        self._seen = {key: value for key, value in self._seen.items() if key in keys}
