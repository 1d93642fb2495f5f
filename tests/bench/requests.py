"""What one API process answers while a client trains beside it: the status of a training client, with a key.

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
from typing import Any

import numpy as np

from tests.workbench_server import WorkbenchServer
from tg_workbench.sdk import Workbench

CONNECTIONS, WARM_SECONDS, SECONDS = 16, 1.0, 8.0
STEPS = 1_000_000
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure, and return the rows."""
    server = WorkbenchServer(OMP_NUM_THREADS="1")
    try:
        with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
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
            found = asked(str(server.socket), path, server.api_key)
            client.stop()
    finally:
        server.stop()
    case = f"GET a status, {CONNECTIONS} connections, one training runs"
    rate, late = found["per_second"], found["p99_ms"]
    return [
        {"case": f"{case}: answers per second", "value": rate, "target": "at least 700", "met": rate >= 700},
        {"case": f"{case}: p99 in ms", "value": late, "target": "at most 100", "met": late <= 100},
        {"case": f"{case}: median in ms", "value": found["p50_ms"]},
    ]


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
