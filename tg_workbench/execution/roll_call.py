"""The roll call: whether a dispatcher still knows of the processes that it has started."""

from __future__ import annotations

import time

from sqlmodel import col, select

from tg_workbench.errors import DatabaseUnavailable
from tg_workbench.execution.tables import DispatcherLease
from tg_workbench.execution.watched import Watched
from tg_workbench.storage import Database

ROLL_CALL_SECONDS = 5.0
ORPHAN_SECONDS = 30.0


class RollCall:
    """One worker's look at the dispatcher's lease, every few seconds however often it is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watched = Watched()
        self._called = time.monotonic()
        self._is_orphaned = False

    def is_orphaned(self) -> bool:
        """Whether no dispatcher has been seen for long: then nobody knows of this process, and it leaves."""
        if time.monotonic() - self._called < ROLL_CALL_SECONDS:
            return self._is_orphaned
        self._called = time.monotonic()
        query = select(DispatcherLease.until).where(col(DispatcherLease.id) == 1)
        try:
            with self._database.read() as session:
                until = session.exec(query).one_or_none()
        except DatabaseUnavailable:
            return self._is_orphaned
        seconds = 0.0 if until is None else self._watched.seconds("dispatcher", until)
        self._is_orphaned = seconds > ORPHAN_SECONDS
        return self._is_orphaned
