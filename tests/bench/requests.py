"""What one API process answers while a client trains beside it, and what is spent before a route begins.

Sixteen connections ask over and over. The load comes from a process of its own that does next to nothing per
answer, on the same machine: what it takes is taken from the API.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.contracts.people import PASSWORD
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import create_app
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.visitors import admit, bearer_of
from tg_workbench.crypto.access_tokens import AccessToken
from tg_workbench.identity import SCOPES, NewAccount, Sessions, Users
from tg_workbench.observability import logs
from tg_workbench.sdk import Workbench
from tg_workbench.settings import Settings

CONNECTIONS, WARM_SECONDS, SECONDS = 16, 1.0, 8.0
STEPS = 1_000_000
PATH = "/api/v1/training_clients"
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure, and return the rows."""
    return [*while_training(), *of_the_door()]


def while_training() -> list[Row]:
    """A signed-in user asks for the status of their own client, which trains."""
    server = WorkbenchServer(OMP_NUM_THREADS="1")
    try:
        with server.client() as http:
            account = {"username": "bench", "email": "bench@example.org", "password": PASSWORD}
            signed_in = http.post("/api/v1/auth/register", json=account).json()["data"]
            http.headers["Authorization"] = f"Bearer {signed_in['token']}"
            key = http.post("/workbench/v1/api_keys", json={"name": "bench"}).json()["key"]
        with Workbench(socket=str(server.socket), api_key=key) as workbench:
            rng = np.random.default_rng(0)
            rows = workbench.datasets.upload(
                "rows of a bench",
                features=rng.normal(size=(2000, 30)).astype(np.float32),
                targets=rng.integers(0, 2, 2000),
                privacy="public",
            )
            client = workbench.create_training_client("mlp", dataset=rows, batch_size=64)
            client.train(steps=STEPS, progress=False)
            path = f"/api/v1/training_clients/{client.id}"
            found = asked(str(server.socket), path, signed_in["token"])
            client.stop()
    finally:
        server.stop()
    case = f"GET a status with a token, {CONNECTIONS} connections, one training runs"
    rate, late = found["per_second"], found["p99_ms"]
    return [
        {"case": f"{case}: answers per second", "value": rate, "target": "at least 700", "met": rate >= 700},
        {"case": f"{case}: p99 in ms", "value": late, "target": "at most 100", "met": late <= 100},
        {"case": f"{case}: median in ms", "value": found["p50_ms"]},
    ]


def of_the_door() -> list[Row]:
    """What is done before any route begins, in this process: the token and its scope; the middleware.

    Each request writes its line of log, to a file.
    """
    with TemporaryDirectory(prefix="tgw-") as home:
        app = create_app(
            Settings(home=Path(home), database_url=f"sqlite:///{home}/tgsp.db", rate_limits="on")
        )
        premises: Premises = app.state.premises
        logs.configure(Path(home) / "logs")
        premises.database.migrate()
        with premises.database.write() as session:
            user, place = Users(session).register(NewAccount("bench", "bench@example.org", None))
            opened, _ = Sessions(session).begin(place)
        token = AccessToken(user.id, place.organization_id, frozenset(SCOPES), opened.id)
        text = premises.access_tokens.sign(token)
        door = _microseconds(lambda: admit(bearer_of(text, premises), "read"))
        stack = asyncio.run(_added_by_middleware(app))
        premises.database.close()
    return [
        {"case": "token and scope, µs", "value": door, "target": "at most 100", "met": door <= 100},
        {"case": "the middleware adds, ms", "value": stack, "target": "at most 0.3", "met": stack <= 0.3},
    ]


def _microseconds(call: Callable[[], object]) -> float:
    """The median of many calls, in CPU time."""
    for _ in range(200):
        call()
    took = []
    for _ in range(200):
        start = time.process_time_ns()
        for _ in range(10):
            call()
        took.append((time.process_time_ns() - start) / 1e4)
    return statistics.median(took)


async def _added_by_middleware(app: FastAPI) -> float:
    """Milliseconds that one request takes longer through all of our middleware than without it."""

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    whole: ASGIApp = bare
    for layer in reversed(app.user_middleware):
        whole = layer.cls(whole, *layer.args, **layer.kwargs)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        return None

    def scope() -> Scope:
        named = {"method": "GET", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}
        ends = {"client": None, "server": None, "headers": [(b"host", b"workbench")]}
        return {"type": "http", "app": app, **named, **ends}

    async def seconds(asgi: ASGIApp, times: int = 2000) -> float:
        start = time.process_time()
        for _ in range(times):
            await asgi(scope(), receive, send)
        return (time.process_time() - start) / times

    rounds = [(await seconds(whole), await seconds(bare)) for _ in range(5)]
    return statistics.median(ours - theirs for ours, theirs in rounds) * 1e3


def asked(socket: str, path: str, key: str) -> dict[str, float]:
    """What a process of its own measures."""
    command = [sys.executable, "-m", "tests.bench.requests", socket, path, key]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def ask(socket: str, path: str, key: str) -> dict[str, float]:
    """Sixteen connections, each asking again as soon as it is answered."""
    question = f"GET {path} HTTP/1.1\r\nHost: workbench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    begin = time.perf_counter() + WARM_SECONDS
    end = begin + SECONDS
    took: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_unix_connection(socket)
        while (sent := time.perf_counter()) < end:
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.split(b"\r\n")[0].decode())
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            if sent >= begin:
                took.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    cuts = statistics.quantiles(took, n=100)
    return {"per_second": len(took) / SECONDS, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(*sys.argv[1:]))))
