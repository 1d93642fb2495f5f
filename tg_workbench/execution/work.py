"""Work: asking for a worker, being one, and being one no longer.

A worker writes only inside a transaction that has checked its fence: the epoch in the `work` row is still
the one it was started with. A worker that was given up on finds a newer epoch there and leaves without a
trace.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.errors import WorkbenchError
from tg_workbench.execution.bells import bell_name, ring
from tg_workbench.execution.tables import Work
from tg_workbench.storage.database import Database, after_commit, now
from tg_workbench.storage.statements import Statement

log = logging.getLogger(__name__)
LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0
LOCK_SECONDS = 5.0
"""How long a worker waits for the lock of the one before it."""
LOCKS = "locks"

_WANT = Statement(
    sa.update(Work)
    .where(col(Work.id) == sa.bindparam("work"))
    .values(
        wanted=True,
        last_active=sa.bindparam("time"),
        wanted_since=sa.case(
            (col(Work.wanted), col(Work.wanted_since)), else_=sa.bindparam("time", type_=sa.Float)
        ),
    )
)
_EPOCH = Statement(sa.select(col(Work.epoch)).where(col(Work.id) == sa.bindparam("work")).with_for_update())


class Fenced(WorkbenchError):
    """The worker was replaced; whatever it was doing must not be written."""


@dataclass(frozen=True, slots=True)
class WorkKind:
    """A kind of work: what does it, and how many workers of it there may be at once."""

    name: str
    entry_point: str
    """`module:function`, called with an `Assignment` in a forked process."""
    most: int
    with_torch: bool = True
    """Whether its workers are forked with torch in memory; without, they are small and start as quickly."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a new worker is told. `previous_exit` says how the worker before it was lost, if it was."""

    work_id: str
    kind: str
    epoch: int
    previous_exit: str | None = None
    give_up: bool = False

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Assignment:
        """The assignment in one line of JSON."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Turn:
    """When a piece of work is served; said when it is first asked for."""

    share: str = ""
    priority: int = 0
    waits_for: str | None = None


def request_worker(session: Session, folder: Path, work_id: str, kind: str, turn: Turn | None = None) -> None:
    """Make sure `work_id` has a worker that looks at its queue, from the moment this transaction commits."""
    moment = now()
    if not _WANT.change(session, work=work_id, time=moment):
        said = asdict(turn or Turn())
        session.add(Work(id=work_id, kind=kind, last_active=moment, wanted_since=moment, **said))
    worker_bell = folder / bell_name(work_id)

    def wake() -> None:
        ring(folder, bell_name(work_id) if worker_bell.exists() else "dispatcher-*")

    after_commit(session, wake)


def release_work(session: Session, work_id: str) -> None:
    """Say that `work_id` needs no worker for now."""
    session.connection().execute(sa.update(Work).where(col(Work.id) == work_id).values(wanted=False))


class Fence:
    """A worker's right to write, for as long as nobody replaced it."""

    def __init__(self, work_id: str, epoch: int) -> None:
        self.work_id = work_id
        self.epoch = epoch

    def hold(self, session: Session) -> None:
        """Check, inside a writing transaction, that this worker is still the one. Raises Fenced."""
        if _EPOCH.value(session, work=self.work_id) != self.epoch:
            raise Fenced(f"worker {self.epoch} of {self.work_id} was replaced")

    def renew(self, session: Session, **values: object) -> None:
        """Push the lease ahead. Raises Fenced."""
        renewed = session.connection().execute(
            sa.update(Work)
            .where(col(Work.id) == self.work_id, col(Work.epoch) == self.epoch)
            .values(lease_until=now() + LEASE_SECONDS, **values)
        )
        if not renewed.rowcount:
            raise Fenced(f"worker {self.epoch} of {self.work_id} was replaced")

    def forgive(self, session: Session) -> None:
        """Something was done: workers that were lost before it were not lost to this work. Raises Fenced.

        It is given up when workers are lost at the same thing again and again, not for five in a year.
        """
        self.renew(session, failures=0)


def keep_renewed(database: Database, fence: Fence) -> None:
    """Renew a worker's lease for as long as it lives; being replaced ends the process at once."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        try:
            with database.write() as session:
                fence.renew(session)
        except Fenced:
            os._exit(0)
        except WorkbenchError:
            log.warning("the database did not answer a heartbeat")


class LifeLock:
    """A file lock that a worker holds while it lives: the kernel lets go of it however the worker dies."""

    def __init__(self, folder: Path, work_id: str) -> None:
        self.path = folder / LOCKS / f"{bell_name(work_id)}.lock"
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """Hold the lock until this process ends; False when another process holds it."""
        self.path.parent.mkdir(exist_ok=True, mode=0o700)
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def take_soon(self) -> bool:
        """The same, once the worker before this one has let go; False when it has not after a while."""
        deadline = time.monotonic() + LOCK_SECONDS
        while not self.take():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def is_held(self) -> bool:
        """Whether some process holds it now."""
        if not self.path.exists():
            return False
        with self.path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
