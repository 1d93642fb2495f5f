"""The dispatcher: gives every wanted piece of work one living worker, and no piece two.

It compares the `work` table with the processes it sees, a few times a second and whenever its bell rings.
Exactly one dispatcher acts at a time (a lease in the database); a second one waits. Workers it did not start
itself, left by an earlier dispatcher, are known by the file lock they hold and are kept.

Whether somebody still renews a lease is judged by watching it change, on this process's own clock: the
wall clock may jump, and then a living worker must not be killed, nor a dead dispatcher be waited for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DatabaseUnavailable
from tg_workbench.execution.bells import Bell, ring, run_folder
from tg_workbench.execution.forking import Zygote
from tg_workbench.execution.tables import DispatcherLease, Work
from tg_workbench.execution.watched import Watched
from tg_workbench.execution.work import LEASE_SECONDS, Assignment, LifeLock, WorkKind
from tg_workbench.settings import Settings
from tg_workbench.storage.database import Database, now

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.25
DISPATCHER_LEASE_SECONDS = 6.0
GRACE_SECONDS = 6.0
MOST_FAILURES = 5  # above the attempts an operation gets: one bad operation must not end its client
LONGEST_PAUSE_SECONDS = 60.0
ASK_AGAIN_SECONDS = 5.0
TRIM_SECONDS = 60.0
LOCK_PATIENCE_SECONDS = 1.0
DISPATCHER = "dispatcher"
"""What the dispatcher's own lease is watched as; works have longer names."""


class Dispatcher:
    """Starts, watches and stops workers of each of some kinds."""

    def __init__(self, settings: Settings, kinds: Iterable[WorkKind]) -> None:
        self.settings = settings
        self.kinds = {kind.name: kind for kind in kinds}
        # A worker that hangs may hold the lock, and this is who has to end it: not waiting, but looking.
        self.database = Database(settings.database_url, patience_seconds=LOCK_PATIENCE_SECONDS)
        self.folder = run_folder(settings.home)
        self.holder = uuid.uuid4().hex
        self.pids: dict[str, int] = {}  # work id → the worker this dispatcher started for it
        self.starts: dict[str, float] = {}  # work id → when this dispatcher last started one, on our clock
        self.asked: dict[str, float] = {}  # work id → when its worker was last asked to make room
        self.served: dict[tuple[str, str], float] = {}  # kind and share → when it was last given a worker
        self.leases = Watched()
        self._trimmed = 0.0
        self.stopping = threading.Event()
        self.zygotes = {with_torch: self._make_zygote(with_torch) for with_torch in (True, False)}

    def _make_zygote(self, with_torch: bool) -> Zygote:
        entry_points = {
            kind.name: kind.entry_point for kind in self.kinds.values() if kind.with_torch is with_torch
        }
        return Zygote(self.settings.home / "logs", entry_points, on_exit=self.wake)

    def run(self) -> None:
        """Work until `stop` is called; then let every worker save itself and leave."""
        bell = Bell(self.folder, f"dispatcher-{os.getpid()}")
        try:
            while not self.stopping.is_set():
                try:
                    if self._hold_lease():
                        self._look()
                except DatabaseUnavailable:
                    log.warning("the database did not answer; looking again")
                bell.wait(LOOK_SECONDS)
            if self._hold_lease():  # else they are another dispatcher's
                self._stop_workers()
        finally:
            for zygote in self.zygotes.values():
                zygote.close()
            with contextlib.suppress(DatabaseUnavailable):
                self._release_lease()
            bell.close()
            self.database.close()

    def stop(self) -> None:
        """Ask `run` to end, from any thread or signal handler."""
        self.stopping.set()
        self.wake()

    def wake(self) -> None:
        """Have `run` look at the world now."""
        ring(self.folder, f"dispatcher-{os.getpid()}")

    # ------------------------------------------------------------------------------- one look at the world
    def _look(self) -> None:
        with self.database.read() as session:
            rows = list(
                session.exec(select(Work).where(sa.or_(col(Work.wanted), col(Work.pid).is_not(None))))
            )
        known = {row.id for row in rows}
        self.leases.keep({*known, DISPATCHER})
        self.starts = {key: at for key, at in self.starts.items() if key in known}
        shares = {(row.kind, row.share) for row in rows}
        self.served = {key: at for key, at in self.served.items() if key in shares}
        alive = {row.id for row in rows if self._is_alive(row)}
        for row in rows:  # those that hang first: one of them may hold the lock that starting another needs
            if row.id in alive:
                self._end_if_hung(row)
        for row in rows:
            if row.id not in alive and row.pid is not None:
                self._note_exit(row)
        for kind in self.kinds.values():
            self._serve([row for row in rows if row.kind == kind.name], kind, alive)
        if time.monotonic() - self._trimmed > TRIM_SECONDS:
            self._trimmed = time.monotonic()
            self.zygotes[True].trim_log()  # both write the one log

    def _serve(self, rows: list[Work], kind: WorkKind, alive: set[str]) -> None:
        """Give the workers that a kind has left to those who wait for one, in their turn."""
        wanted_ids = {row.id for row in rows if row.wanted}
        waiting = [row for row in rows if row.id not in alive and self._is_due(row)]
        held = Counter(row.share for row in rows if row.id in alive)
        room = kind.most - sum(row.id in alive for row in rows)
        while waiting and room > 0:
            row = min(waiting, key=lambda row: self._turn_of(row, held[row.share]))
            waiting.remove(row)
            if self._start(row, kind):
                alive.add(row.id)
                held[row.share] += 1
                self.served[kind.name, row.share] = time.monotonic()
                room -= 1
        if room <= 0 and not wanted_ids <= alive:
            self._make_room([row for row in rows if row.wanted], alive)

    def _turn_of(self, row: Work, held: int) -> tuple[float, ...]:
        """What decides who is next: the least comes first.

        Who has lost its worker does not wait behind those who have had none: it rests longer each time
        (`_is_due`), and is given up in the end. Where there is room for few, shares hold none or one each:
        then who was served longest ago is next. A priority orders what is of one share: whoever asks sets
        it, so it must not pass others by.
        """
        served = self.served.get((row.kind, row.share), -math.inf) if row.share else -math.inf
        return (not row.failures, held, served, -row.priority, row.wanted_since)

    def _is_due(self, row: Work) -> bool:
        """Whether it is to get a worker now: it rests after losses, and may wait for other work."""
        rested = time.monotonic() - self.starts.get(row.id, -math.inf) > _pause(row.failures)
        return row.wanted and row.pid is None and rested and not self._is_held_up(row)

    def _is_held_up(self, row: Work) -> bool:
        if row.waits_for is None:
            return False
        with self.database.read() as session:
            query = select(Work.wanted).where(Work.id == row.waits_for)
            return bool(session.exec(query).one_or_none())

    def _end_if_hung(self, row: Work) -> None:
        """Kill a worker that lives but has not renewed its lease for the whole length of it."""
        unchanged = self.leases.seconds(row.id, (row.epoch, row.lease_until))
        if row.pid is not None and unchanged > LEASE_SECONDS:
            _kill_group(row.pid)

    def _is_alive(self, row: Work) -> bool:
        """Whether a worker holds the row's lock, or was started so lately that it may not hold it yet.

        Between fork and lock a worker is alive but unseen; the zygote would have told of its exit.
        """
        if LifeLock(self.folder, row.id).is_held():
            return True
        pid = self.pids.get(row.id)
        if pid is None or pid != row.pid or pid in self._zygote_of(row).exits:
            return False
        return time.monotonic() - self.starts.get(row.id, -math.inf) < LEASE_SECONDS

    def _zygote_of(self, row: Work) -> Zygote:
        kind = self.kinds.get(row.kind)
        return self.zygotes[kind is None or kind.with_torch]

    def _note_exit(self, row: Work) -> None:
        pid = row.pid or 0
        how = self._zygote_of(row).exits.get(pid, "ended unseen")
        lost = how != "ended with code 0"
        with self.database.write() as session:
            stored = session.get(Work, row.id)
            if stored is None or stored.epoch != row.epoch:
                return
            stored.pid = None
            # A worker that leaves by itself says so by code 0; if it is not wanted any more, nothing was
            # lost.
            if lost and (stored.wanted or how != "ended unseen"):
                stored.last_exit = how
                stored.failures += 1
            session.add(stored)
        self._zygote_of(row).exits.pop(pid, None)
        self.pids.pop(row.id, None)
        row.pid = None
        row.failures += int(lost)
        row.last_exit = how if lost else None

    def _start(self, row: Work, kind: WorkKind) -> bool:
        zygote = self.zygotes[kind.with_torch]
        if not zygote.is_ready():
            return False
        with self.database.write() as session:
            stored = session.get(Work, row.id)
            if stored is None or not stored.wanted or stored.pid is not None:
                return False
            stored.epoch += 1
            stored.lease_until = now() + LEASE_SECONDS
            stored.last_active = now()
            assignment = Assignment(
                work_id=stored.id,
                kind=stored.kind,
                epoch=stored.epoch,
                previous_exit=stored.last_exit,
                give_up=stored.failures >= MOST_FAILURES,
            )
            session.add(stored)
        # Forked only now: a crash in between costs an epoch, never two workers. The worker writes the pid
        # as well.
        self.starts[row.id] = time.monotonic()
        pid = self.pids[row.id] = zygote.fork(assignment)
        with self.database.write() as session:
            session.connection().execute(
                sa.update(Work)
                .where(col(Work.id) == row.id, col(Work.epoch) == assignment.epoch)
                .values(pid=pid)
            )
        return True

    def _make_room(self, wanted: list[Work], alive: set[str]) -> None:
        """When somebody waits for a worker and all are taken, ask the one that rested longest to leave.

        SIGUSR1 asks; a worker that has something to do stays, and the next one is asked. (SIGTERM would end
        one that is still loading.)
        """
        moment = time.monotonic()
        self.asked = {key: at for key, at in self.asked.items() if moment - at < ASK_AGAIN_SECONDS}
        resting = [
            row
            for row in wanted
            if row.id in alive
            and row.id not in self.asked
            and abs(now() - row.last_active) > LOOK_SECONDS * 4
        ]
        if resting:
            longest = min(resting, key=lambda row: row.last_active)
            self.asked[longest.id] = moment
            _signal(self.pids.get(longest.id) or longest.pid, signal.SIGUSR1)

    # ------------------------------------------------------------------------------- leaving
    def _stop_workers(self) -> None:
        with self.database.read() as session:
            pids = {row.id: row.pid for row in session.exec(select(Work).where(col(Work.pid).is_not(None)))}
        pids = {key: pid for key, pid in pids.items() if LifeLock(self.folder, key).is_held()}
        for pid in pids.values():
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while pids and time.monotonic() < deadline:
            pids = {key: pid for key, pid in pids.items() if LifeLock(self.folder, key).is_held()}
            time.sleep(0.02)
        for pid in pids.values():
            _kill_group(pid)
        with self.database.write() as session:
            session.connection().execute(sa.update(Work).values(pid=None))

    def _hold_lease(self) -> bool:
        with self.database.read() as session:
            lease = session.get(DispatcherLease, 1) or DispatcherLease()
        seen = (lease.holder, lease.until)
        unchanged = self.leases.seconds(DISPATCHER, seen)
        if lease.holder == self.holder and unchanged < DISPATCHER_LEASE_SECONDS / 2:
            return True
        if lease.holder != self.holder and lease.until > now() and unchanged < DISPATCHER_LEASE_SECONDS:
            return False
        try:
            with self.database.write() as session:
                return self._take_lease(session, seen)
        except DatabaseUnavailable:
            # Somebody who hangs may hold the write lock. Then nobody can have taken the lease from us, and we
            # are the one who has to end that process.
            return lease.holder == self.holder

    def _take_lease(self, session: Session, seen: tuple[str, float]) -> bool:
        lease = session.get(DispatcherLease, 1) or DispatcherLease()
        if (lease.holder, lease.until) != seen:  # somebody was quicker
            return False
        lease.holder, lease.until = self.holder, now() + DISPATCHER_LEASE_SECONDS
        session.add(lease)
        return True

    def _release_lease(self) -> None:
        with self.database.write() as session:
            session.connection().execute(
                sa.update(DispatcherLease).where(col(DispatcherLease.holder) == self.holder).values(until=0.0)
            )


def _pause(failures: int) -> float:
    """How long to wait before the next worker, after so many were lost in a row: longer each time."""
    return min(LONGEST_PAUSE_SECONDS, LOOK_SECONDS * 2**failures) if failures > 1 else 0.0


def dispatch(settings: Settings, kinds: Iterable[WorkKind]) -> None:
    """Run a dispatcher until SIGTERM (workers save and leave) or the end of its input (workers stay)."""
    dispatcher = Dispatcher(settings, kinds)
    signal.signal(signal.SIGTERM, lambda *_: dispatcher.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, args=(dispatcher.folder,), daemon=True).start()
    dispatcher.run()


def _leave_with_parent(folder: Path) -> None:
    """End this process at once when its input ends: its owner was killed, and the workers must go on."""
    while os.read(0, 1024):
        pass
    (folder / f"dispatcher-{os.getpid()}").unlink(missing_ok=True)
    os._exit(0)


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill_group(pid: int | None) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
