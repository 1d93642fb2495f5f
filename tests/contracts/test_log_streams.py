"""Many readers of one log: each gets every line once and in order, however often it comes back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from safetensors.numpy import save

from tests.workbench_server import WorkbenchServer
from tg_workbench.events import Events, Logged
from tg_workbench.execution import ring
from tg_workbench.execution.bells import run_folder
from tg_workbench.storage import Database
from tg_workbench.storage.database import after_commit

READERS, VISITS, LINES = 200, 10, 220
STOP_SECONDS = 5.0
HEADERS = "GET {path} HTTP/1.1\r\nHost: workbench\r\nAuthorization: Bearer {key}\r\n{more}\r\n"
NUMBER = re.compile(rb"^id: (\d+)\r?\n", re.MULTILINE)
MESSAGE = re.compile(rb'"message": "(line \d+)"')


@pytest.fixture
def server() -> Iterator[WorkbenchServer]:
    server = WorkbenchServer(TG_MAX_JOBS="1")
    yield server
    server.stop()


@pytest.fixture
def job(server: WorkbenchServer) -> str:
    """A job that waits behind another: what its log says, the test says."""
    features = np.zeros((32, 4), np.float32)
    content = save({"features": features, "targets": np.arange(32) % 2})
    with server.client() as http:
        made = http.post(
            "/workbench/v1/datasets",
            params={"name": "zeros", "privacy": "public"},
            content=content,
            headers={"Content-Type": "application/vnd.safetensors"},
        ).json()
        asked = {"dataset_id": made["dataset_id"], "model_type": "mlp", "learning": {"epochs": 10_000}}
        jobs = [http.post("/workbench/v1/jobs", json=asked).json()["id"] for _ in range(2)]
    return str(jobs[1])


async def opened(
    server: WorkbenchServer, job: str, seen: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One reader at the door, who has seen so much."""
    reader, writer = await asyncio.open_unix_connection(str(server.socket))
    more = f"Last-Event-ID: {seen}\r\n" if seen else ""
    path = f"/api/v1/training/jobs/{job}/logs"
    writer.write(HEADERS.format(path=path, key=server.api_key, more=more).encode())
    return reader, writer


async def read(server: WorkbenchServer, job: str, own: int) -> list[bytes]:
    """Every line, over several visits: each ends in the middle of things, but the last one."""
    heard: list[bytes] = []
    seen = 0
    for visit in range(1, VISITS + 1):
        reader, writer = await opened(server, job, seen)
        text = b""
        enough = LINES if visit == VISITS else min(LINES, len(heard) + 1 + (own + visit) % 40)
        while len(heard) + len(MESSAGE.findall(text)) < enough:
            part = await reader.read(65_536)
            assert part, "the stream has ended early"
            text += part
        whole = text[: text.rfind(b"\n\n") + 2]  # what came of an event that is not whole, comes again
        heard += MESSAGE.findall(whole)
        seen = max([seen, *map(int, NUMBER.findall(whole))])
        writer.close()
    return heard


def write_lines(server: WorkbenchServer, job: str) -> None:
    """What a worker does: a few lines at a time, and a ring."""
    database = Database(server.database_url)
    for first in range(0, LINES, 11):
        with database.write() as session:
            for number in range(first, first + 11):
                Events(session).record(job, Logged("INFO", f"line {number}"))
            after_commit(session, lambda: ring(run_folder(server.home), "api-*", job))
        time.sleep(0.1)
    database.close()


@pytest.mark.operation("S1-10")
def test_many_readers_miss_nothing_over_many_reconnections(server: WorkbenchServer, job: str) -> None:
    async def all_read() -> list[list[bytes]]:
        async with asyncio.timeout(120):
            readers = [asyncio.create_task(read(server, job, own)) for own in range(READERS)]
            await asyncio.to_thread(write_lines, server, job)
            return await asyncio.gather(*readers)

    heard = asyncio.run(all_read())
    told = [f"line {number}".encode() for number in range(LINES)]
    assert len(heard) == READERS
    assert all(one == told for one in heard)


def test_a_server_with_open_streams_ends_in_time(server: WorkbenchServer, job: str) -> None:
    async def open_until_the_end() -> float:
        readers = [await opened(server, job, 0) for _ in range(READERS)]
        for reader, _ in readers:
            await reader.readuntil(b": open")
        process = psutil.Process(server.pid)
        began = time.monotonic()
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        took = time.monotonic() - began
        for _, writer in readers:
            writer.close()
        return took

    assert asyncio.run(open_until_the_end()) < STOP_SECONDS
