"""A name server that does not answer costs those who named it, and nobody else."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.webhooks.conftest import NEAR
from tests.webhook_receiver import WebhookReceiver
from tg_workbench.webhooks import postman as module
from tg_workbench.webhooks.lookups import MOST_LOOKUPS, MOST_PER_TENANT, Lookups, NoLookup
from tg_workbench.webhooks.postman import TOO_LATE, TOO_MANY_LOOKUPS, Answer, Postman

ENDS_AT_ONCE = """
import asyncio, socket, time
from tg_workbench.webhooks.postman import Postman
from tg_workbench.webhooks.addresses import Reach
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
async def main():
    postman = Postman(Reach(https_only=False))
    try:
        async with asyncio.timeout(0.5):
            await postman.post("http://slow.example/", b"{}", {})
    except TimeoutError:
        await postman.close()
asyncio.run(main())
"""


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that does not answer for names under slow.example, nor says that it does not."""
    answered, known = threading.Event(), socket.getaddrinfo

    def look_up(host: str, *more: Any, **named: Any) -> Any:
        if host.endswith("slow.example"):
            answered.wait(60)
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return known(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    answered.set()


@pytest.mark.usefixtures("slow_names")
def test_a_name_server_that_hangs_fails_nobody_elses_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 3.0)

    async def go(healthy: str) -> tuple[list[Answer], Answer]:
        postman = Postman(NEAR)
        slow = [
            asyncio.create_task(postman.post(f"http://{n}.slow.example/", b"{}", {}, tenant_id="slow"))
            for n in range(20)
        ]
        await asyncio.sleep(0.2)
        quick = await postman.post(healthy, b"{}", {}, tenant_id="quick")
        answers = await asyncio.gather(*slow)
        await postman.close()
        return answers, quick

    with WebhookReceiver() as receiver:
        slow, quick = asyncio.run(go(f"http://localhost:{receiver.port}/"))
    assert quick.good
    assert [answer.problem for answer in slow if answer.tried] == [TOO_LATE] * MOST_PER_TENANT
    others = [answer.problem for answer in slow if not answer.tried]
    assert others == [TOO_MANY_LOOKUPS] * (20 - MOST_PER_TENANT)


@pytest.mark.usefixtures("slow_names")
def test_while_the_names_of_eight_others_hang_a_lookup_is_left() -> None:
    async def go() -> list[str]:
        lookups, going_on = Lookups(), []
        for number in range(MOST_LOOKUPS // MOST_PER_TENANT):
            for _ in range(MOST_PER_TENANT):
                try:
                    resolve = await lookups.place(f"slow-{number}", patience_seconds=0.01)
                except NoLookup:
                    break
                going_on.append(asyncio.ensure_future(resolve("slow.example", 80)))
                await asyncio.sleep(0)
        resolve = await lookups.place("quick", patience_seconds=1)
        found = list(await resolve("127.0.0.1", 80))
        for waiting in going_on:
            waiting.cancel()
        return found

    assert asyncio.run(go()) == ["127.0.0.1"]


def test_a_place_comes_back_when_its_lookup_ends() -> None:
    async def go() -> None:
        lookups = Lookups()
        for _ in range(MOST_PER_TENANT * 2):
            resolve = await lookups.place("us", patience_seconds=1)
            assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]

    asyncio.run(go())


def test_a_process_ends_without_waiting_for_a_name_server() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", ENDS_AT_ONCE], check=True, timeout=50)
    assert time.monotonic() - began < 30
