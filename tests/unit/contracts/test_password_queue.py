"""The queue at the door is short, and remembers the names that were tried."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tg_workbench.contracts import tries
from tg_workbench.contracts.password_queue import (
    MOST_OF_ONE_ADDRESS,
    MOST_WAITING,
    Kind,
    PasswordQueue,
    Tried,
)
from tg_workbench.contracts.tries import MOST_TRIES, WINDOW_SECONDS
from tg_workbench.crypto import passwords
from tg_workbench.errors import PasswordsBusy, PasswordUnfit, TooManyAttempts


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every password is wrong, and that is known at once."""
    monkeypatch.setattr(passwords, "verify", lambda password, stored: password == "right")


async def attempt(queue: PasswordQueue, name: str, what: str = "wrong", kind: Kind = "name") -> bool:
    return await queue.verify(Tried(kind, name), what, None)


@pytest.mark.usefixtures("wrong")
def test_a_name_has_so_many_tries_and_another_has_its_own() -> None:
    async def crowd() -> None:
        queue = PasswordQueue()
        for _ in range(MOST_TRIES):
            assert not await attempt(queue, "alice")
        with pytest.raises(TooManyAttempts) as refused:
            await attempt(queue, "alice", "right")
        assert 0 < refused.value.retry_after <= WINDOW_SECONDS + 1
        assert await attempt(queue, "bob", "right")

    asyncio.run(crowd())


@pytest.mark.usefixtures("wrong")
def test_the_right_password_forgives_the_wrong_ones() -> None:
    async def crowd() -> None:
        queue = PasswordQueue()
        for _ in range(3):
            for _ in range(MOST_TRIES - 1):
                await attempt(queue, "alice")
            assert await attempt(queue, "alice", "right")

    asyncio.run(crowd())


@pytest.mark.usefixtures("wrong")
def test_tries_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crowd() -> None:
        queue = PasswordQueue()
        for _ in range(MOST_TRIES):
            await attempt(queue, "alice")
        later = time.monotonic() + WINDOW_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert await attempt(queue, "alice", "right")

    asyncio.run(crowd())


@pytest.mark.usefixtures("wrong")
def test_many_names_do_not_wash_out_the_tries_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "MOST_NAMES", 5)

    async def crowd() -> None:
        queue = PasswordQueue()
        for _ in range(MOST_TRIES):
            await attempt(queue, "nobody")
        for _ in range(MOST_TRIES - 1):
            await attempt(queue, "alice", kind="user")
        for number in range(20):
            await attempt(queue, f"junk-{number}")
        with pytest.raises(TooManyAttempts):
            await attempt(queue, "nobody")
        await attempt(queue, "alice", kind="user")
        with pytest.raises(TooManyAttempts):
            await attempt(queue, "alice", "right", kind="user")

    asyncio.run(crowd())


@pytest.mark.usefixtures("wrong")
def test_whoever_is_signed_in_is_not_locked_out_by_strangers() -> None:
    async def crowd() -> None:
        queue = PasswordQueue()
        for _ in range(MOST_TRIES):
            await attempt(queue, "alice", kind="user")
        assert await attempt(queue, "alice", "right", kind="session")
        with pytest.raises(TooManyAttempts):
            await attempt(queue, "alice", "right", kind="user")

    asyncio.run(crowd())


async def full(queue: PasswordQueue, opened: threading.Event, places: int, **of: str) -> list[object]:
    """What those are told who come when `places` are taken, five of them, all for one name."""
    asked = [
        asyncio.create_task(queue.verify(Tried("name", str(number), **of), "x", None))
        for number in range(places)
    ]
    await asyncio.sleep(0.05)
    late = [
        asyncio.create_task(queue.verify(Tried("user", "alice", **of), "x", None))
        for _ in range(MOST_TRIES + 1)
    ]
    await asyncio.sleep(0.05)
    opened.set()
    assert await asyncio.gather(*asked) == [True] * places
    return await asyncio.gather(*late, return_exceptions=True)


@pytest.mark.parametrize(
    ("places", "of"), [(MOST_WAITING, {}), (MOST_OF_ONE_ADDRESS, {"address": "192.0.2.7"})]
)
def test_whoever_finds_the_queue_full_is_told_so_and_loses_no_try(
    monkeypatch: pytest.MonkeyPatch, places: int, of: dict[str, str]
) -> None:
    opened = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda password, stored: opened.wait(20))

    async def crowd() -> None:
        queue = PasswordQueue()
        for refused in await full(queue, opened, places, **of):
            assert isinstance(refused, PasswordsBusy)
            assert str(refused).startswith("the server is busy")
        assert await queue.verify(Tried("user", "alice", **of), "right", None)

    asyncio.run(crowd())


def test_one_address_leaves_places_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda password, stored: opened.wait(20))

    async def crowd() -> list[bool | BaseException]:
        queue = PasswordQueue()
        tried = [Tried("name", str(number), "192.0.2.7") for number in range(MOST_OF_ONE_ADDRESS)]
        tried += [Tried("name", "late", address) for address in ("192.0.2.7", "192.0.2.8", None)]
        asked = [asyncio.create_task(queue.verify(each, "x", None)) for each in tried]
        await asyncio.sleep(0.05)
        opened.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(crowd())
    kinds = [bool] * MOST_OF_ONE_ADDRESS + [PasswordsBusy, bool, bool]
    assert [type(answer) for answer in answers] == kinds


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(PasswordUnfit):
        asyncio.run(PasswordQueue().hashed("short"))
