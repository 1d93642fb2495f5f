"""The intake: how many files may be on their way at a time, so that nobody takes all the room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tg_workbench.errors import QuotaExceeded

MOST_OF_ONE = 4
MOST = 16
LONGEST_WAIT = 30.0


class Intake:
    """Places for files that are arriving."""

    def __init__(self) -> None:
        self._taken: list[str] = []

    @contextmanager
    def place(self, owner_id: str) -> Iterator[None]:
        """A place for one file. Raises QuotaExceeded."""
        if self._taken.count(owner_id) >= MOST_OF_ONE:
            raise QuotaExceeded("files of yours on their way", MOST_OF_ONE)
        if len(self._taken) >= MOST:
            raise QuotaExceeded("files on their way", MOST)
        self._taken.append(owner_id)
        try:
            yield
        finally:
            self._taken.remove(owner_id)


class UpdateIntake:
    """Places for updates of devices, which all come at once when a round ends: they wait for each other.

    It is apart from the files of people, so neither keeps the other out.
    """

    def __init__(self, most: int = MOST, longest_wait: float = LONGEST_WAIT) -> None:
        self.most = most
        self.longest_wait = longest_wait
        self._places = asyncio.Semaphore(most)
        self._here: list[str] = []

    @asynccontextmanager
    async def place(self, device_id: str) -> AsyncIterator[None]:
        """A place for one update, as soon as there is one. Raises QuotaExceeded."""
        if self._here.count(device_id) >= MOST_OF_ONE:
            raise QuotaExceeded("updates of this device on their way", MOST_OF_ONE)
        self._here.append(device_id)
        try:
            try:
                async with asyncio.timeout(self.longest_wait):
                    await self._places.acquire()
            except TimeoutError:
                raise QuotaExceeded("updates on their way", self.most) from None
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._here.remove(device_id)
