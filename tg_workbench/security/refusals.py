"""Refusals, told of in bounded numbers: somebody who knocks a thousand times a second fills no disk.

In each minute the first few refusals of a tenant are recorded one by one; the others are counted, and told of
in one entry when the minute is over, or when the workbench stops. What a `kill -9` loses is that count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tg_workbench.security.audit import Deed

ONE_BY_ONE = 20
WINDOW_SECONDS = 60.0
SUMMARY = "door.refused_more"


@dataclass(slots=True)
class _Window:
    began: float
    told: int = 0
    counted: int = 0


class Refusals:
    """What was refused lately, by tenant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def admit(self, deed: Deed) -> bool:
        """Whether `deed` is to be recorded by itself; otherwise it is counted."""
        window = self._windows.setdefault(deed.tenant_id, _Window(self._clock()))
        if window.told < ONE_BY_ONE:
            window.told += 1
            return True
        window.counted += 1
        return False

    def over(self, *, now: bool = False) -> list[Deed]:
        """The entries of the minutes that are over (`now`: of all of them)."""
        time_now = self._clock()
        ended = [
            tenant_id
            for tenant_id, window in self._windows.items()
            if now or time_now - window.began >= WINDOW_SECONDS
        ]
        counts = {tenant_id: self._windows.pop(tenant_id).counted for tenant_id in ended}
        return [
            Deed(tenant_id=tenant_id, action=SUMMARY, outcome="refused", actor_kind="several", count=count)
            for tenant_id, count in counts.items()
            if count
        ]
