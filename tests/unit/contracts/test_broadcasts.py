"""Broadcasts: bounded for the slow, complete for whoever comes back, and silent when nobody listens."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tg_workbench.contracts import broadcasts as module
from tg_workbench.contracts.broadcasts import MOST_OF_ONE, MOST_WAITING, Broadcasts, Listener, replay
from tg_workbench.errors import QuotaExceeded
from tg_workbench.events import Events, StatusChanged
from tg_workbench.execution import AsyncBells
from tg_workbench.identity import Principal
from tg_workbench.observability.announcements import Announcement, announcements
from tg_workbench.storage import Database
from tg_workbench.training import TrainingClient

ALICE = Principal("alice", "acme", frozenset({"read"}))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/x.db")
    opened.migrate()
    with opened.write() as session:
        session.add(TrainingClient(id="tc-1", owner_id="alice", tenant_id="acme", model_ref="mlp", config={}))
        session.add(TrainingClient(id="tc-2", owner_id="eve", tenant_id="eves", model_ref="mlp", config={}))
    yield opened
    opened.close()


def happen(database: Database, count: int, subject: str = "tc-1") -> None:
    with database.write() as session:
        for step in range(count):
            Events(session).record(subject, StatusChanged("busy", step))


def announcement(number: int, owner: str = "alice") -> Announcement:
    return Announcement(number, "training_status", 0.0, {}, "tc-1", owner)


def ids(said: list[dict[str, Any] | Announcement]) -> list[int]:
    return [one.id for one in said if isinstance(one, Announcement)]


def test_a_slow_listener_loses_the_oldest_and_is_told_which() -> None:
    listener = Listener("training", ALICE, 0)
    for number in range(1, MOST_WAITING + 11):
        listener.offer(announcement(number))
    missed, waiting = listener.take()
    assert missed == (1, 10)
    assert [one.id for one in waiting] == list(range(11, MOST_WAITING + 11))
    assert listener.take() == (None, [])


def test_what_is_not_for_a_listener_takes_no_room() -> None:
    listener = Listener("training", ALICE, 0)
    for number in range(1, 2 * MOST_WAITING):
        listener.offer(announcement(number, "eve"))
    assert listener.take() == (None, [])


def test_a_replay_ends_where_the_broadcast_begins(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 4)
    for subject in ("tc-1", "tc-2", "tc-1"):
        happen(database, 10, subject)
    listener = Listener("training", ALICE, 25)
    assert ids(list(replay(database, listener, 5))) == [*range(6, 11), *range(21, 26)]
    assert list(replay(database, listener, 25)) == []
    assert list(replay(database, listener, 2**63 - 1)) == []


def test_a_replay_looks_back_only_so_far_and_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPLAYED", 5)
    happen(database, 20)
    said = list(replay(database, Listener("training", ALICE, 20), 3))
    assert said[0] == {"type": "events_missed", "data": {"first_event_id": 4, "last_event_id": 15}}
    assert ids(said) == [16, 17, 18, 19, 20]


def test_those_at_the_door_are_few_and_fewer_from_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    broadcasts = Broadcasts()
    monkeypatch.setattr(module, "MOST_AT_THE_DOOR", 4)
    monkeypatch.setattr(module, "MOST_OF_ONE_ADDRESS", 2)
    for _ in range(2):  # whoever has gone has left their place
        with contextlib.ExitStack() as opened:
            for _ in range(2):
                opened.enter_context(broadcasts.door("192.0.2.7"))
            with pytest.raises(QuotaExceeded, match="from your address"):
                opened.enter_context(broadcasts.door("192.0.2.7"))
            for _ in range(2):
                opened.enter_context(broadcasts.door(None))
            with pytest.raises(QuotaExceeded):
                opened.enter_context(broadcasts.door("192.0.2.8"))


def test_those_at_the_door_take_no_place_of_a_listener(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcasts = Broadcasts()
    monkeypatch.setattr(module, "MOST_LISTENERS", 1)
    with broadcasts.door(None), broadcasts.door(None), broadcasts.listening("training", ALICE, database):
        bob = Principal("bob", "bobs", frozenset({"read"}))
        with pytest.raises(QuotaExceeded), broadcasts.listening("training", bob, database):
            pass


def test_listeners_are_counted(database: Database) -> None:
    broadcasts = Broadcasts()
    opened = [broadcasts.listening("training", ALICE, database) for _ in range(MOST_OF_ONE)]
    for one in opened:
        one.__enter__()
    with pytest.raises(QuotaExceeded), broadcasts.listening("training", ALICE, database):
        pass
    for one in opened:
        one.__exit__(None, None, None)
    with broadcasts.listening("training", ALICE, database) as listener:
        assert listener.position == 0


def test_a_thousand_events_reach_ten_listeners_in_order_and_once(database: Database, tmp_path: Path) -> None:
    async def scene() -> list[list[int]]:
        broadcasts, bells = Broadcasts(), AsyncBells(tmp_path)
        reading = asyncio.create_task(broadcasts.run(database, bells))
        heard: list[list[int]] = [[] for _ in range(10)]

        async def listen(number: int) -> None:
            with broadcasts.listening("training", ALICE, database) as listener:
                while len(heard[number]) < 1000:
                    await listener.waits(5)
                    missed, waiting = listener.take()
                    assert missed is None
                    heard[number] += [one.id for one in waiting]

        listeners = [asyncio.create_task(listen(number)) for number in range(10)]
        await asyncio.sleep(0)
        for _ in range(10):
            happen(database, 100)
            await asyncio.sleep(0.01)
            bells.wake("*")
        await asyncio.wait_for(asyncio.gather(*listeners), 60)
        reading.cancel()
        return heard

    for heard in asyncio.run(scene()):
        assert heard == list(range(1, 1001))


def test_an_event_that_cannot_be_read_is_passed_over(database: Database) -> None:
    happen(database, 1)
    with database.write() as session:
        for data in ('"no object"', "[]", "{}", "null", '{"status": 1'):
            session.connection().execute(
                sa.text("INSERT INTO events (subject, type, at, data) VALUES ('tc-1', 'status', 0, :data)"),
                {"data": data},
            )
    happen(database, 1)
    with database.read() as session:
        said, position = announcements(session, 0, 100)
    assert [one.id for one in said] == [1, 7]
    assert position == 7


def test_a_driver_that_fails_bare_does_not_end_the_broadcasts(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([sqlite3.OperationalError("database schema has changed")])
    read = announcements

    def fails_once(*arguments: Any) -> Any:
        for failure in failures:
            raise failure
        return read(*arguments)

    monkeypatch.setattr(module, "announcements", fails_once)

    async def scene() -> list[Announcement]:
        broadcasts, bells = Broadcasts(), AsyncBells(tmp_path)
        reading = asyncio.create_task(broadcasts.run(database, bells))
        with broadcasts.listening("training", ALICE, database) as listener:
            happen(database, 1)
            await listener.waits(10)
            reading.cancel()
            return listener.take()[1]

    assert len(asyncio.run(scene())) == 1
