"""The queue at the door is short, and remembers the names that were tried."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tg_workbench.contracts import password_queue
from tg_workbench.contracts.password_queue import MOST_TRIES, MOST_WAITING, PasswordQueue
from tg_workbench.crypto import passwords
from tg_workbench.errors import PasswordUnfit, TooManyAttempts


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every password is wrong, and that is known at once."""
    monkeypatch.setattr(passwords, "verify", lambda password, stored: password == "right")


async def attempt(queue: PasswordQueue, name: str, what: str = "wrong") -> bool:
    return await queue.verify(name, what, None)


@pytest.mark.usefixtures("wrong")
def test_a_name_has_so_many_tries_and_another_has_its_own() -> None:
    async def crowd() -> None:
        queue = PasswordQueue()
        for _ in range(MOST_TRIES):
            assert not await attempt(queue, "alice")
        with pytest.raises(TooManyAttempts) as refused:
            await attempt(queue, "alice", "right")
        assert 0 < refused.value.retry_after <= password_queue.WINDOW_SECONDS + 1
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
        later = time.monotonic() + password_queue.WINDOW_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert await attempt(queue, "alice", "right")

    asyncio.run(crowd())


@pytest.mark.usefixtures("wrong")
def test_it_remembers_no_more_names_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_queue, "MOST_NAMES", 5)

    async def crowd() -> int:
        queue = PasswordQueue()
        for number in range(20):
            await attempt(queue, f"name-{number}")
        return len(queue._tries)

    assert asyncio.run(crowd()) == 5


def test_whoever_finds_the_queue_full_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda password, stored: opened.wait(20))

    async def crowd() -> list[bool | BaseException]:
        queue = PasswordQueue()
        asked = [asyncio.create_task(attempt(queue, str(number))) for number in range(MOST_WAITING + 5)]
        await asyncio.sleep(0.05)
        opened.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(crowd())
    assert [type(answer) for answer in answers] == [bool] * MOST_WAITING + [TooManyAttempts] * 5


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(PasswordUnfit):
        asyncio.run(PasswordQueue().hashed("short"))
