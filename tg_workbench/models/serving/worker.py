"""A model's worker: opens the model, proves that it answers, and then listens on a socket of its own.

Whoever can connect has a ready worker. One that cannot open its model listens as well, for a while, to tell
why. It leaves when nobody has asked for long enough, when its service is stopped, when it is asked to, or
when no dispatcher has been seen for a while; what it was asked before that it answers first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time

import sqlalchemy as sa
from sqlmodel import col

from tg_workbench.errors import DatabaseUnavailable, ModelFailed, NotFound, WorkbenchError
from tg_workbench.execution import Assignment, Bell, Fence, Fenced, RollCall, Work, ring, run_folder
from tg_workbench.execution.bells import bell_name
from tg_workbench.execution.work import HEARTBEAT_SECONDS, LifeLock, release_work
from tg_workbench.models.serving.frames import BadFrame, Frame, read_frame
from tg_workbench.models.serving.hosts import Host, Tell
from tg_workbench.models.serving.places import GENERATION, listen, socket_path, target_of
from tg_workbench.models.serving.tables import Service
from tg_workbench.settings import Settings
from tg_workbench.storage import Database
from tg_workbench.storage.database import now

log = logging.getLogger(__name__)
NICENESS = 0
"""Somebody waits for each answer: whoever trains comes after that."""
LOOK_SECONDS = 0.5
DRAIN_SECONDS = 4.0
"""Below the dispatcher's grace."""
EXTRA_IDLE_SECONDS = 60.0
"""How long a worker beside the first one rests before it leaves."""
TELL_FAILURE_SECONDS = 10.0
"""How long a worker whose model does not open is there to tell why."""


class Broken:
    """What stands in the place of a model that does not open."""

    def __init__(self, failure: WorkbenchError) -> None:
        self.failure = failure

    async def answer(self, asked: Frame, tell: Tell) -> Frame:
        """Never: it raises the failure."""
        raise self.failure

    async def close(self) -> None:
        """Nothing to close."""


def run(assignment: Assignment) -> None:
    """Be the worker of one replica until it is time to leave."""
    ModelWorker(assignment, Settings.from_environment()).run()


class ModelWorker:
    """One assignment, from taking the lock to letting go of it."""

    def __init__(self, assignment: Assignment, settings: Settings) -> None:
        self.assignment = assignment
        self.settings = settings
        self.folder = run_folder(settings.home)
        self.database = Database(settings.database_url)
        self.fence = Fence(assignment.work_id, assignment.epoch)
        self.target_id, self.replica = target_of(assignment.work_id)
        self.path = socket_path(self.folder, assignment.work_id)
        self.asked_at = now()
        self.is_pinned = False
        self._in_flight = 0
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()  # of those who have asked nothing
        self._is_well = False
        self._roll_call = RollCall(self.database)

    def run(self) -> None:
        """Open the model, answer, leave."""
        self._lock = LifeLock(self.folder, self.assignment.work_id)
        if not self._lock.take_soon():
            return
        self.bell = Bell(self.folder, bell_name(self.assignment.work_id))
        try:
            with self.database.write() as session:
                self.fence.renew(session, pid=os.getpid(), last_exit=None)
            threading.Thread(target=self._beat, daemon=True).start()
            asyncio.run(self._live())
        except Fenced:
            log.warning("replaced; leaving without a trace")
        finally:
            self.bell.close()
            self.database.close()

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        self.leaving, self.yielding, self.news = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        loop.add_signal_handler(signal.SIGUSR1, self.yielding.set)
        loop.add_reader(self.bell.socket, self._rung)
        host = await self._opened()
        if host is None:
            return
        server = await asyncio.start_unix_server(
            lambda reader, writer: self._accept(host, reader, writer), sock=listen(self.path)
        )
        ring(self.folder, "api-*", self.assignment.work_id)
        try:
            await self._stay(host)
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving already
            self.path.unlink(missing_ok=True)
            server.close()
            await self._drain()
            await host.close()

    # ------------------------------------------------------------------------- opening
    async def _opened(self) -> Host | None:
        """The model, proven to answer; None when it is not wanted, and not there, any more."""
        try:
            if self.assignment.give_up:
                how = self.assignment.previous_exit
                raise ModelFailed(f"its worker was lost ({how}), again and again; see logs/workers.log")
            host: Host = await asyncio.to_thread(self._open)
        except (Fenced, DatabaseUnavailable):
            raise  # no fault of the model's
        except NotFound:
            self._rest_for_good()
            return None
        except WorkbenchError as failure:
            log.error("model of %s does not open: %s", self.assignment.work_id, type(failure).__name__)
            self._note(str(failure))
            return Broken(failure)
        self._note(None)
        self._is_well = True
        return host

    def _open(self) -> Host:
        # Imported here, in the forked worker: neither numpy's threads nor ONNX Runtime survive a fork.
        from tg_workbench.models.serving.opening import open_host

        with self.database.read() as session:
            service = session.get(Service, self.target_id)
            model_id = service.model_id if service is not None else self.target_id
            self.is_pinned = service is not None and self.replica < service.min_replicas
        return open_host(
            self.settings, self.database, model_id, with_torch=self.assignment.kind == GENERATION
        )

    def _note(self, reason: str | None) -> None:
        """Why the service cannot answer, or that it can."""
        with self.database.write() as session:
            self.fence.hold(session)
            named = sa.update(Service).where(col(Service.id) == self.target_id)
            session.connection().execute(named.values(reason=reason))

    # ------------------------------------------------------------------------- answering
    async def _accept(self, host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (it is called in a task of its own)
        self._links.add(task)
        try:
            await self._talk(host, reader, writer)
        except (ConnectionError, BadFrame, asyncio.CancelledError):
            pass  # whoever asked has gone, or is none of ours
        finally:
            self._links.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _talk(self, host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question after another; whoever hangs up meanwhile is not computed for."""
        coming = asyncio.ensure_future(read_frame(reader))
        try:
            while True:
                self._writers.add(writer)
                asked = await coming
                self._writers.discard(writer)
                if asked is None:
                    return
                coming = asyncio.ensure_future(read_frame(reader))
                answering = asyncio.ensure_future(self._answered(host, asked, writer))
                await asyncio.wait({coming, answering}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() and (coming.exception() is not None or coming.result() is None):
                    answering.cancel()
                    return
                await answering
        finally:
            coming.cancel()

    async def _answered(self, host: Host, asked: Frame, writer: asyncio.StreamWriter) -> None:
        async def tell(frame: Frame) -> None:
            writer.write(frame.encoded())
            await writer.drain()

        self._in_flight += 1
        try:
            answer = await host.answer(asked, tell)
        except WorkbenchError as failure:
            answer = Frame({"error": failure.as_record()})
        finally:
            self._in_flight -= 1
            self.asked_at = now()
        await tell(answer)

    async def _drain(self) -> None:
        """Answer what was asked; tell those who have asked nothing that this worker leaves."""
        for writer in list(self._writers):
            writer.write(Frame({"leaving": True}).encoded())
            writer.close()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for task in list(self._links):
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    # ------------------------------------------------------------------------- staying and leaving
    async def _stay(self, host: Host) -> None:
        """Until it is time to leave."""
        told_until = time.monotonic() + TELL_FAILURE_SECONDS if isinstance(host, Broken) else None
        while not self.leaving.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), LOOK_SECONDS)
            self.news.clear()
            if told_until is not None and time.monotonic() > told_until:
                self._rest_for_good()
                return
            if self._may_rest() and self._rest():
                return
            if not self._is_wanted():
                return
            if self._roll_call.is_orphaned():
                self.leaving.set()

    def _may_rest(self) -> bool:
        if self._in_flight or self.is_pinned:
            return False
        idle = now() - self.asked_at
        longest = self.settings.worker_idle_seconds
        if self.replica:
            longest = min(longest, EXTRA_IDLE_SECONDS)
        if self.yielding.is_set() and idle > 1.0:  # another model waits for this worker's place
            return True
        self.yielding.clear()
        return idle > longest

    def _rest(self) -> bool:
        """Say that no worker is needed, unless somebody has asked for one meanwhile."""
        self.yielding.clear()
        try:
            with self.database.write() as session:
                self.fence.hold(session)
                mine = sa.update(Work).where(col(Work.id) == self.assignment.work_id)
                unasked = mine.where(col(Work.last_active) <= self.asked_at).values(wanted=False)
                rests = bool(session.connection().execute(unasked).rowcount)
        except DatabaseUnavailable:
            return False
        if not rests:
            self.asked_at = now()
        return rests

    def _rest_for_good(self) -> None:
        with self.database.write() as session:
            self.fence.hold(session)
            release_work(session, self.assignment.work_id)

    def _is_wanted(self) -> bool:
        try:
            with self.database.read() as session:
                work = session.get(Work, self.assignment.work_id)
        except DatabaseUnavailable:
            return True
        return work is not None and work.wanted and work.epoch == self.assignment.epoch

    def _leave(self) -> None:
        self.leaving.set()
        self.news.set()

    def _rung(self) -> None:
        self.bell.topics()
        self.news.set()

    def _beat(self) -> None:
        """Renew the lease while the worker lives; being replaced ends the process at once."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            newest = sa.case(
                (col(Work.last_active) > self.asked_at, col(Work.last_active)), else_=self.asked_at
            )
            forgiven = {"failures": 0} if self._is_well else {}
            try:
                with self.database.write() as session:
                    self.fence.renew(session, last_active=newest, **forgiven)
            except Fenced:
                os._exit(0)
            except WorkbenchError:
                log.warning("the database did not answer a heartbeat")
