"""The intake: how many files may be on their way at a time, so that nobody takes all the room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tg_workbench.errors import QuotaExceeded

MOST_OF_ONE = 4
MOST = 16


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
