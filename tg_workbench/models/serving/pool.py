"""The pool: how the API reaches the workers of a model, from one event loop.

Each worker is asked over connections that are kept; of several, the one with the least to do is asked. When
none listens, one is requested and waited for. What was not sent is sent again once; what was sent and not
answered is not, for it may be what the worker died of. A caller that leaves closes its connection, and is
not computed for any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tg_workbench.errors import DatabaseUnavailable, ModelBusy, ModelNotReady
from tg_workbench.execution import AsyncBells, Turn, request_worker
from tg_workbench.models.serving.frames import BadFrame, Frame, read_frame
from tg_workbench.models.serving.places import socket_path, work_id
from tg_workbench.storage import Database

MOST_OUTSTANDING = 256
"""Questions of one target that may be on their way at a time."""
MOST_IN_ALL = 1024
READY_SECONDS = 30.0
ANSWER_SECONDS = 60.0
LOOK_SECONDS = 0.1
CROWD = 4
"""Questions on their way per worker above which a target is crowded."""
CROWDED_SECONDS = 1.0
"""For how long before it gets another worker."""
MOST_KEPT = 32
"""Connections that are kept for each worker."""
LOST = "the worker that was answering was lost; nothing was stored, and the request may be sent again"
LATE = "no answer came in time; send the request again, or fewer rows"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to answer: a service, or a model by itself; by which kind of worker, and at most how many."""

    id: str
    kind: str
    share: str
    most: int = 1


@dataclass(slots=True)
class _Link:
    """One connection to a worker."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    replica: int

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and not self.writer.is_closing()


@dataclass(slots=True)
class _Traffic:
    """What is on its way to one target."""

    asked: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    kept: dict[int, list[_Link]] = field(default_factory=lambda: defaultdict(list))
    outstanding: int = 0
    crowded_since: float | None = None
    starting: asyncio.Task[None] | None = None


class Pool:
    """Asks the workers of models."""

    def __init__(self, folder: Path, database: Database, bells: AsyncBells) -> None:
        self.folder = folder
        self.database = database
        self.bells = bells
        self._traffic: dict[str, _Traffic] = {}
        self._in_all = 0

    async def ask(self, target: Target, question: Frame) -> Frame:
        """The answer. Raises ModelNotReady, ModelBusy."""
        async with contextlib.aclosing(self.stream(target, question)) as answers:
            try:
                async with asyncio.timeout(READY_SECONDS + ANSWER_SECONDS):
                    async for answer in answers:
                        return answer
            except TimeoutError:
                raise ModelNotReady(LATE) from None
        raise ModelNotReady(LOST)

    async def stream(self, target: Target, question: Frame) -> AsyncGenerator[Frame, None]:
        """The answers to one question: all but the last have `more` in their header."""
        encoded = question.encoded()
        with self._counted(target) as traffic:
            link, answer = await self._first_answer(target, traffic, encoded)
            is_whole = False
            try:
                while answer.header.get("more"):
                    yield answer
                    answer = await self._next_answer(link)
                is_whole = True
                yield answer
            finally:
                self._put_back(traffic, link, is_whole=is_whole)

    async def close(self) -> None:
        """Let go of every connection."""
        for traffic in self._traffic.values():
            for links in traffic.kept.values():
                for link in links:
                    link.writer.close()
                links.clear()

    # ------------------------------------------------------------------------- one question
    async def _first_answer(self, target: Target, traffic: _Traffic, encoded: bytes) -> tuple[_Link, Frame]:
        """Ask, once more when the worker was just leaving: then it has not read the question."""
        for _ in range(2):
            link = await self._link(target, traffic)
            is_answered = False
            try:
                link.writer.write(encoded)
                await link.writer.drain()
                answer = await self._next_answer(link)
                if not answer.header.get("leaving"):
                    is_answered = True
                    return link, answer
            except ConnectionError:
                raise ModelNotReady(LOST) from None
            finally:
                if not is_answered:
                    self._put_back(traffic, link, is_whole=False)
        raise ModelNotReady

    async def _next_answer(self, link: _Link) -> Frame:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await read_frame(link.reader)
        except TimeoutError:
            raise ModelNotReady(LATE) from None
        except (ConnectionError, BadFrame):
            answer = None
        if answer is None:
            raise ModelNotReady(LOST)
        return answer

    @contextlib.contextmanager
    def _counted(self, target: Target) -> Iterator[_Traffic]:
        traffic = self._traffic.setdefault(target.id, _Traffic())
        if traffic.outstanding >= MOST_OUTSTANDING or self._in_all >= MOST_IN_ALL:
            raise ModelBusy
        traffic.outstanding += 1
        self._in_all += 1
        try:
            yield traffic
        finally:
            traffic.outstanding -= 1
            self._in_all -= 1
            if not traffic.outstanding and not any(traffic.kept.values()):
                self._traffic.pop(target.id, None)

    # ------------------------------------------------------------------------- connections
    async def _link(self, target: Target, traffic: _Traffic) -> _Link:
        """A connection to the worker with the least to do; one is started when there is none."""
        if (found := await self._connected(target, traffic)) is not None:
            return found
        deadline = time.monotonic() + READY_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await self._ready(target, traffic, left)
            if (found := await self._connected(target, traffic)) is not None:
                return found
            await asyncio.sleep(0.01)
        raise ModelNotReady

    async def _connected(self, target: Target, traffic: _Traffic) -> _Link | None:
        listening = [number for number in range(target.most) if self._path(target, number).exists()]
        self._watch_crowd(target, traffic, listening)
        for replica in sorted(listening, key=lambda number: (traffic.asked[number], number)):
            traffic.asked[replica] += 1  # before anything is waited for, so that the next one sees it
            found = None
            try:
                found = await self._open(traffic.kept[replica], self._path(target, replica), replica)
            finally:
                traffic.asked[replica] -= found is None
            if found is not None:
                return found
        return None

    async def _open(self, kept: list[_Link], path: Path, replica: int) -> _Link | None:
        """A connection that was kept, or a new one; None when nobody listens."""
        while kept:
            link = kept.pop()
            if link.is_open:
                return link
            link.writer.close()
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(path))
            return _Link(reader, writer, replica)
        return None

    def _put_back(self, traffic: _Traffic, link: _Link, *, is_whole: bool) -> None:
        """Keep a connection whose question is answered; any other would answer the wrong one."""
        traffic.asked[link.replica] -= 1
        kept = traffic.kept[link.replica]
        if is_whole and link.is_open and len(kept) < MOST_KEPT:
            kept.append(link)
        else:
            link.writer.close()

    def _path(self, target: Target, replica: int) -> Path:
        return socket_path(self.folder, work_id(target.id, replica))

    # ------------------------------------------------------------------------- workers
    async def _ready(self, target: Target, traffic: _Traffic, seconds: float) -> None:
        """Wait until a worker may listen; whoever comes first asks for it, the others wait as well."""
        if traffic.starting is None or traffic.starting.done():
            traffic.starting = asyncio.create_task(self._start(target, seconds))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(traffic.starting), seconds)

    async def _start(self, target: Target, seconds: float) -> None:
        work = work_id(target.id, 0)
        deadline = time.monotonic() + seconds
        with self.bells.listening(work) as rung:
            self._request(target, 0)
            while time.monotonic() < deadline:
                rung.clear()
                if await self._is_listening(target):
                    return
                await self.bells.heard(rung, LOOK_SECONDS)

    async def _is_listening(self, target: Target) -> bool:
        for replica in range(target.most):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(self._path(target, replica)))
                writer.close()
                return True
        return False

    def _request(self, target: Target, replica: int) -> None:
        with self.database.write() as session:
            turn = Turn(share=target.share)
            request_worker(session, self.folder, work_id(target.id, replica), target.kind, turn)

    def _watch_crowd(self, target: Target, traffic: _Traffic, listening: list[int]) -> None:
        """Ask for one more worker when a queue stays; one that is not needed any more leaves by itself."""
        free = next((number for number in range(target.most) if number not in listening), None)
        if free is None or not listening or traffic.outstanding <= CROWD * len(listening):
            traffic.crowded_since = None
        elif traffic.crowded_since is None:
            traffic.crowded_since = time.monotonic()
        elif time.monotonic() - traffic.crowded_since > CROWDED_SECONDS:
            traffic.crowded_since = None
            with contextlib.suppress(DatabaseUnavailable):  # it is asked for again
                self._request(target, free)
