"""The supervisor by itself: what it does with a child that will not start, or will not stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tg_server_extension.socket_folder import SocketFolder
from tg_server_extension.supervisor import Plan, Supervisor

from tests.server_extension.jupyter import BACKEND
from tg_workbench.errors import InvalidSetting

API = f"{sys.executable} {BACKEND} $*"


@pytest.fixture
def folder() -> Iterator[SocketFolder]:
    """A listening socket."""
    with tempfile.TemporaryDirectory(prefix="tgf-") as parent:
        made = SocketFolder(Path(parent))
        yield made
        made.remove()


def supervise(
    folder: SocketFolder,
    plan: Plan,
    act: Callable[[httpx.AsyncClient], Awaitable[None]],
    environment: Callable[[], dict[str, str]] = lambda: dict(os.environ),
) -> None:
    """Do something with a client of the socket while a supervisor runs, then stop it."""

    async def run() -> None:
        log = logging.getLogger("supervisor")
        supervisor = Supervisor(plan, folder.listener, environment, folder.path / "api.log", log)
        supervisor.start()
        transport = httpx.AsyncHTTPTransport(uds=str(folder.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://workbench", timeout=60) as client:
            await act(client)
        await supervisor.stop()
        await supervisor.stop()

    asyncio.run(run())


def shell(script: str, **waits: float) -> Plan:
    return Plan(command=("sh", "-c", script, "sh"), **waits)


def test_a_setting_nobody_can_use_is_named(folder: SocketFolder) -> None:
    def refuse() -> dict[str, str]:
        raise InvalidSetting("TG_ENVIRONMENT", "prod", "development or production")

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.get("/echo")
        assert answer.status_code == 503
        assert "TG_ENVIRONMENT is 'prod'" in answer.json()["error"]["message"]

    supervise(folder, shell(API, outage_seconds=0.0), ask, refuse)


def test_a_command_that_is_not_there_is_named(folder: SocketFolder) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.head("/echo")
        assert (answer.status_code, answer.content) == (503, b"")
        assert "nowhere/python" in (await client.get("/echo")).json()["error"]["message"]

    supervise(folder, Plan(command=("/nowhere/python",), outage_seconds=0.0), ask)


def test_a_child_that_never_answers_is_started_again(folder: SocketFolder, tmp_path: Path) -> None:
    first = tmp_path / "first"

    async def ask(client: httpx.AsyncClient) -> None:
        assert (await client.get("/echo")).status_code == 200
        assert first.exists()

    hang_once = f"test -e {first} || {{ touch {first}; exec sleep 600; }}; exec {API}"
    supervise(folder, shell(hang_once, start_seconds=3.0), ask)


def test_a_child_that_will_not_stop_is_killed_with_its_group(folder: SocketFolder) -> None:
    family: list[psutil.Process] = []

    async def ask(client: httpx.AsyncClient) -> None:
        await client.get("/echo")
        (child,) = (process for process in psutil.Process().children() if "trap" in str(process.cmdline()))
        family.extend([child, *child.children()])

    supervise(folder, shell(f"trap '' TERM; {API}; sleep 600", grace_seconds=0.5), ask)
    assert len(family) == 2
    psutil.wait_procs(family, 10)
    assert not any(process.is_running() for process in family)


def test_the_log_is_kept_from_growing_for_ever(folder: SocketFolder) -> None:
    log = folder.path / "api.log"
    log.write_bytes(b"old\n" * 4_000_000)

    async def ask(client: httpx.AsyncClient) -> None:
        await client.get("/echo")

    supervise(folder, shell(API), ask)
    assert log.stat().st_size < 100_000
    assert log.with_suffix(".log.1").exists()
