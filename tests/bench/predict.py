"""What one prediction takes through HTTP, beside the bare call of ONNX Runtime on the same rows.

One client in sequence, one row of an `mlp` over one connection that is kept, with an API key; and rows per
second: a thousand to a request, and one to a request from sixteen connections at a time, which the worker
answers in batches. The clients do next to nothing themselves: what they take is taken from the API.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from tests.learned import mlp_onnx, put_model
from tests.workbench_server import WorkbenchServer

INPUTS, CONNECTIONS, SECONDS, MANY = 30, 16, 4.0, 1000
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure, and return the rows."""
    onnx = mlp_onnx(inputs=INPUTS)
    rows = np.random.default_rng(0).normal(size=(MANY, INPUTS)).astype(np.float32)
    bare = _bare(onnx)
    server = WorkbenchServer(OMP_NUM_THREADS="1")
    try:
        shape = {"model_ref": "mlp", "input_shape": [INPUTS], "output_classes": 3}
        path = f"/models/{put_model(server, onnx=onnx, architecture=shape)}/predict"
        with server.client() as http:
            http.post(path, json={"input": rows[0].tolist()})
        single = question(server, path, {"input": rows[0].tolist()})
        whole = question(server, path, {"inputs": rows.tolist()})
        one, many = (
            asyncio.run(_asked_in_turn(server, single, 400)),
            asyncio.run(_asked_in_turn(server, whole, 20)),
        )
        crowd = asyncio.run(_asked_by_many(server, single))
    finally:
        server.stop()
    alone, together = _median(lambda: bare(rows[:1])), _median(lambda: bare(rows), 50)
    peer = {"peer_name": "onnxruntime, in this process"}
    batched = MANY / many
    return [
        {
            "case": "one row, median in ms",
            **_beside(one * 1e3, alone * 1e3),
            **peer,
            "target": "at most 3 ms",
            "met": one <= 0.003,
        },
        {
            "case": f"{MANY} rows to a request, rows per second",
            **_beside(batched, MANY / together),
            **peer,
            "target": "at least 1,500",
            "met": batched >= 1500,
        },
        {"case": f"one row to a request, {CONNECTIONS} connections, rows per second", "value": crowd},
    ]


def _beside(ours: float, peer: float) -> Row:
    return {"ours": ours, "peer": peer, "ratio": ours / peer}


def _bare(onnx: bytes) -> Callable[[Any], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["scores"], {"features": rows})


def _median(call: Callable[[], object], times: int = 400) -> float:
    """Seconds."""
    took = []
    for number in range(times + times // 10):
        began = time.perf_counter()
        call()
        if number >= times // 10:
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def question(server: WorkbenchServer, path: str, rows: dict[str, Any]) -> bytes:
    """A request as it is sent."""
    body = json.dumps(rows).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: workbench\r\nAuthorization: Bearer {server.api_key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _asked_in_turn(server: WorkbenchServer, asked: bytes, times: int) -> float:
    """Seconds from question to answer, the median; each waits for the one before."""
    reader, writer = await asyncio.open_unix_connection(str(server.socket), limit=1 << 24)
    took = []
    for number in range(times + times // 10):
        began = time.perf_counter()
        await _answered(reader, writer, asked)
        if number >= times // 10:
            took.append(time.perf_counter() - began)
    writer.close()
    return statistics.median(took)


async def _asked_by_many(server: WorkbenchServer, asked: bytes) -> float:
    """Answers per second, of all connections together."""
    end = time.perf_counter() + SECONDS
    answered = 0

    async def one() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_unix_connection(str(server.socket))
        while time.perf_counter() < end:
            await _answered(reader, writer, asked)
            answered += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return answered / SECONDS


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes) -> None:
    """Ask, and read the whole answer."""
    writer.write(asked)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.split(b"\r\n")[0].decode())
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
