"""Broadcasts: each event is read once per process, however many listen, and offered to those it is for.

A listener has room for 1,000 messages, which it shares with the others. One that does not keep up loses the
oldest that wait, and is told which; it may come back with the id of the last it had.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tg_workbench.errors import QuotaExceeded, WorkbenchError
from tg_workbench.execution import ANYTHING, AsyncBells
from tg_workbench.identity import Principal
from tg_workbench.observability.allowance import Allowance
from tg_workbench.observability.announcements import Announcement, Channel, announcements, newest_event
from tg_workbench.observability.logs import where
from tg_workbench.storage import Database

MOST_AT_THE_DOOR = 64
MOST_OF_ONE_ADDRESS = 8
MOST_LISTENERS = 256
MOST_OF_ONE = 32
MOST_WAITING = 1000
PAGE = 200
REPLAYED = 5000
LOOK_SECONDS = 0.5
LEAST_SECONDS = 0.05
"""A step a millisecond rings as often: that many looks would take as long as the steps."""
log = structlog.get_logger("tg_workbench.broadcasts")


class Listener:
    """One who listens on a channel, and what waits to be sent there."""

    def __init__(self, channel: Channel, principal: Principal, position: int) -> None:
        self.channel = channel
        self.principal = principal
        self.position = position
        """The newest event there was when it came: what is later is offered."""
        self._waiting: deque[Announcement] = deque()
        self._missed: tuple[int, int] | None = None
        self._rung = asyncio.Event()

    def offer(self, announcement: Announcement) -> None:
        """Let it wait here, if it is for this listener."""
        if not announcement.is_for(self.principal, self.channel):
            return
        if len(self._waiting) >= MOST_WAITING:
            oldest = self._waiting.popleft()
            self._missed = (self._missed[0] if self._missed else oldest.id, oldest.id)
        self._waiting.append(announcement)
        self._rung.set()

    async def waits(self, seconds: float) -> None:
        """Until something waits, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), seconds)

    def take(self) -> tuple[tuple[int, int] | None, list[Announcement]]:
        """The first and last event that were lost, if any were, and what waits."""
        missed, waiting = self._missed, list(self._waiting)
        self._missed = None
        self._waiting.clear()
        self._rung.clear()
        return missed, waiting


class Broadcasts:
    """Everybody who listens, and the one who reads for them."""

    def __init__(self) -> None:
        self._at_the_door: list[str | None] = []
        """The addresses of those who have opened a WebSocket and not said yet who they are."""
        self.refusals = Allowance()
        """Room in the log for WebSockets that were refused."""
        self._listeners: set[Listener] = set()
        self._position = 0
        self._joined = asyncio.Event()

    @contextlib.contextmanager
    def door(self, address: str | None) -> Iterator[None]:
        """A place for a WebSocket while nobody knows whose it is. Raises QuotaExceeded.

        They are few, and apart from those of listeners: whoever does not sign in keeps out nobody who has.
        """
        if address is not None and self._at_the_door.count(address) >= MOST_OF_ONE_ADDRESS:
            raise QuotaExceeded("WebSockets from your address that have not signed in", MOST_OF_ONE_ADDRESS)
        if len(self._at_the_door) >= MOST_AT_THE_DOOR:
            raise QuotaExceeded("WebSockets that have not signed in", MOST_AT_THE_DOOR)
        self._at_the_door.append(address)
        try:
            yield
        finally:
            self._at_the_door.remove(address)

    @contextlib.contextmanager
    def listening(self, channel: Channel, principal: Principal, database: Database) -> Iterator[Listener]:
        """Somebody who hears what happens from now on. Raises QuotaExceeded."""
        if sum(other.principal.id == principal.id for other in self._listeners) >= MOST_OF_ONE:
            raise QuotaExceeded("WebSockets of yours", MOST_OF_ONE)
        if len(self._listeners) >= MOST_LISTENERS:
            raise QuotaExceeded("open WebSockets", MOST_LISTENERS)
        if not self._listeners:
            with database.read() as session:
                self._position = newest_event(session)
        listener = Listener(channel, principal, self._position)
        self._listeners.add(listener)
        self._joined.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def run(self, database: Database, bells: AsyncBells) -> None:
        """Read for those who listen, until cancelled; while nobody does, read nothing."""
        with bells.listening(ANYTHING) as rung:
            while True:
                rung.clear()
                if not self._listeners:
                    self._joined.clear()
                    await self._joined.wait()
                try:
                    more = self._look(database)
                except (WorkbenchError, SQLAlchemyError) as failure:
                    log.warning("could not look", **where(failure))
                    more = False
                await asyncio.sleep(0 if more else LEAST_SECONDS)
                if not more:
                    await bells.heard(rung, LOOK_SECONDS)

    def _look(self, database: Database) -> bool:
        """Offer what is new; whether there is more."""
        with database.read() as session:
            said, position = announcements(session, self._position, PAGE)
        for announcement in said:
            for listener in self._listeners:
                listener.offer(announcement)
        has_more = position - self._position >= PAGE
        self._position = position
        return has_more


def replay(database: Database, listener: Listener, after: int) -> Iterator[dict[str, Any] | Announcement]:
    """What a listener missed while it was away, up to where its own broadcast begins; a page at a time.

    Of what is long ago only the newest events are looked through.
    """
    start = max(after, listener.position - REPLAYED)
    if start > after:
        yield missed_message(after + 1, start)
    while start < listener.position:
        with database.read() as session:
            said, reached = announcements(session, start, PAGE)
        for one in said:
            if one.id <= listener.position and one.is_for(listener.principal, listener.channel):
                yield one
        if reached == start:
            return
        start = reached


def missed_message(first: int, last: int) -> dict[str, Any]:
    """What a listener is told of events it was not sent."""
    return {"type": "events_missed", "data": {"first_event_id": first, "last_event_id": last}}
