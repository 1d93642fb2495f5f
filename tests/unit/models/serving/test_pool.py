"""The pool keeps connections, shares questions out, and asks nobody twice who may have died of a question."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tg_workbench.errors import ModelBusy, ModelNotReady
from tg_workbench.execution import AsyncBells, run_folder
from tg_workbench.models.serving import pool as pools
from tg_workbench.models.serving.frames import Frame, read_frame
from tg_workbench.models.serving.places import INFERENCE, listen, socket_path, work_id
from tg_workbench.models.serving.pool import Pool, Target
from tg_workbench.storage import Database

TARGET = Target("svc-1", INFERENCE, "alice", most=2)
Answer = Callable[[Frame], Awaitable[Frame | None]]


class Replica:
    """A worker whose answers a test decides; None hangs up."""

    def __init__(self, folder: Path, replica: int, answer: Answer) -> None:
        self.path = socket_path(folder, work_id(TARGET.id, replica))
        self.answer = answer
        self.asked = self.connections = 0

    async def open(self) -> Replica:
        await asyncio.start_unix_server(self._talk, sock=listen(self.path))
        return self

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while (frame := await read_frame(reader)) is not None:
            self.asked += 1
            answer = await self.answer(frame)
            if answer is None:
                break
            writer.write(answer.encoded())
        writer.close()


async def echo(frame: Frame) -> Frame:
    return frame


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tgw-") as folder:  # a path that is short enough for a socket
        yield Path(folder)


def run(home: Path, test: Callable[[Pool, Path], Awaitable[Any]]) -> Any:
    """Run a test in an event loop, with a pool over a database of its own."""
    folder = run_folder(home)
    database = Database(f"sqlite:///{home}/t.db")
    database.migrate()

    async def go() -> Any:
        bells = AsyncBells(folder)
        bells.open()
        pool = Pool(folder, database, bells)
        try:
            return await test(pool, folder)
        finally:
            await pool.close()
            bells.close()

    try:
        return asyncio.run(go())
    finally:
        database.close()


def test_a_connection_is_kept_for_the_next_question(home: Path) -> None:
    async def test(pool: Pool, folder: Path) -> None:
        replica = await Replica(folder, 0, echo).open()
        for number in range(5):
            assert (await pool.ask(TARGET, Frame({"n": number}))).header == {"n": number}
        assert (replica.asked, replica.connections) == (5, 1)

    run(home, test)


def test_questions_go_to_whoever_has_the_least_to_do(home: Path) -> None:
    async def test(pool: Pool, folder: Path) -> None:
        may_end = asyncio.Event()

        async def slow(frame: Frame) -> Frame:
            await may_end.wait()
            return frame

        replicas = [await Replica(folder, number, slow).open() for number in range(2)]
        asking = [asyncio.create_task(pool.ask(TARGET, Frame({"n": number}))) for number in range(6)]
        while sum(replica.asked for replica in replicas) < 6:
            await asyncio.sleep(0.01)
        assert [replica.asked for replica in replicas] == [3, 3]
        may_end.set()
        assert [answer.header["n"] for answer in await asyncio.gather(*asking)] == list(range(6))

    run(home, test)


def test_a_question_that_a_worker_died_of_is_not_asked_again(home: Path) -> None:
    async def test(pool: Pool, folder: Path) -> None:
        async def die(frame: Frame) -> None:
            return None

        replicas = [await Replica(folder, number, die).open() for number in range(2)]
        with pytest.raises(ModelNotReady, match="was lost"):
            await pool.ask(TARGET, Frame({}))
        assert sum(replica.asked for replica in replicas) == 1

    run(home, test)


def test_a_worker_that_leaves_has_not_read_the_question(home: Path) -> None:
    async def test(pool: Pool, folder: Path) -> None:
        async def leave(frame: Frame) -> Frame:
            leaving.path.unlink()
            return Frame({"leaving": True})

        leaving = await Replica(folder, 0, leave).open()
        staying = await Replica(folder, 1, echo).open()
        assert (await pool.ask(TARGET, Frame({"n": 1}))).header == {"n": 1}
        assert staying.asked == 1

    run(home, test)


def test_whoever_leaves_hangs_up(home: Path) -> None:
    async def test(pool: Pool, folder: Path) -> None:
        async def wait(frame: Frame) -> Frame:
            await may_end.wait()
            return frame

        may_end = asyncio.Event()
        replica = await Replica(folder, 0, wait).open()
        asking = asyncio.create_task(pool.ask(TARGET, Frame({"n": 1})))
        while not replica.asked:
            await asyncio.sleep(0.01)
        asking.cancel()
        may_end.set()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await pool.ask(TARGET, Frame({"n": 2}))).header == {"n": 2}  # and not the answer to the first
        assert replica.connections == 2

    run(home, test)


def test_too_many_questions_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST_OUTSTANDING", 2)

    async def test(pool: Pool, folder: Path) -> None:
        async def slow(frame: Frame) -> Frame:
            await asyncio.sleep(0.2)
            return frame

        await Replica(folder, 0, slow).open()
        asked = [pool.ask(TARGET, Frame({})) for _ in range(3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Frame, Frame, ModelBusy]

    run(home, test)


def test_nobody_waits_for_ever_for_a_worker(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "READY_SECONDS", 0.3)

    async def test(pool: Pool, folder: Path) -> None:
        with pytest.raises(ModelNotReady):
            await pool.ask(TARGET, Frame({}))

    run(home, test)
