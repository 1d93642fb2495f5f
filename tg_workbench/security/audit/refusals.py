"""What led to nothing, told of in bounded numbers: who knocks a thousand times a second fills no disk.

In each minute the first few refusals, and the first few failures, of each actor in a tenant's log are
recorded one by one; the others are counted, and told of in one entry when the minute is over, or when the
workbench stops. So nobody's noise hides what another was refused: all strangers together are one actor, and
what somebody fails at does not count as refused. What a `kill -9` loses is that count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tg_workbench.security.audit.entries import Deed, Outcome

ONE_BY_ONE = 20
WINDOW_SECONDS = 60.0
Window = tuple[str, str | None, str, Outcome]
"""Whose: the tenant, the actor and its kind, and how it went."""


@dataclass(slots=True)
class _Window:
    began: float
    told: int = 0
    counted: int = 0


class Refusals:
    """What was refused, or failed, lately. Any thread may ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Window, _Window] = {}
        self._lock = threading.Lock()

    def admit(self, deed: Deed) -> bool:
        """Whether `deed` is to be recorded by itself; otherwise it is counted."""
        whose: Window = deed.tenant_id, deed.actor_id, deed.actor_kind, deed.outcome
        with self._lock:
            window = self._windows.setdefault(whose, _Window(self._clock()))
            if window.told < ONE_BY_ONE:
                window.told += 1
                return True
            window.counted += 1
            return False

    def over(self, *, now: bool = False) -> list[Deed]:
        """The entries of the minutes that are over (`now`: of all of them)."""
        time_now = self._clock()
        with self._lock:
            windows = self._windows.items()
            ended = [whose for whose, one in windows if now or time_now - one.began >= WINDOW_SECONDS]
            counts = {whose: self._windows.pop(whose).counted for whose in ended}
        return [
            Deed(
                tenant_id=tenant_id,
                action=f"door.{outcome}_more",
                outcome=outcome,
                actor_kind=kind,
                actor_id=actor_id,
                count=count,
            )
            for (tenant_id, actor_id, kind, outcome), count in counts.items()
            if count
        ]
