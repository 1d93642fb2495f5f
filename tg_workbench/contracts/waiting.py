"""Waiting for something to change: nothing is held meanwhile but the connection.

Each look is a short transaction of its own, after a bell, or after a while in case the bell was lost.
The event loop hears the bells: who writes or looks, and awaits nothing before waiting here, misses none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlmodel import Session

from tg_workbench.contracts.premises import Premises

Found = TypeVar("Found")


class Waiting:
    """Looks again whenever `topic` is rung, at most `look_seconds` apart, until the server is to stop."""

    def __init__(self, premises: Premises, topic: str, look_seconds: float | None = None) -> None:
        self.premises = premises
        self.topic = topic
        self.look_seconds = premises.bells.FALLBACK_SECONDS if look_seconds is None else look_seconds

    async def settled(
        self,
        found: Found,
        seconds: float,
        *,
        look: Callable[[Session], Found],
        is_settled: Callable[[Found], bool],
    ) -> Found:
        """What was found once it is settled, or as it is after `seconds`. Raises what `look` does."""
        bells, deadline = self.premises.bells, time.monotonic() + seconds
        with bells.listening(self.topic) as rung:
            while not is_settled(found) and not self.premises.stopping.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                await bells.heard(rung, min(left, self.look_seconds))
                rung.clear()
                with self.premises.database.read() as session:
                    found = look(session)
        return found
