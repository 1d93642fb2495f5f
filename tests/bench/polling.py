"""A thousand registered devices that give signs of life, each every ten seconds: how long they wait."""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import random
import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.workbench_server import WorkbenchServer
from tg_workbench.crypto.assertions import CONTEXT, assertion
from tg_workbench.crypto.certificates import request_for
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.signatures import SigningKey

DEVICES, INTERVAL, SECONDS, CLIENTS = 1000, 10.0, 30.0, 2
TARGET_SECONDS = 0.2
Shown = tuple[str, str]
"""A device's id and its token."""


def main() -> list[dict[str, Any]]:
    """The median and the 99th percentile of what devices wait, from when they meant to ask."""
    server = WorkbenchServer(OMP_NUM_THREADS="1")
    try:
        devices = registered(server)
        parts = [devices[number::CLIENTS] for number in range(CLIENTS)]
        with multiprocessing.get_context("spawn").Pool(CLIENTS) as pool:
            asked = [pool.apply_async(polled, (str(server.socket), part)) for part in parts]
            waits = sorted(wait for each in asked for wait in each.get(timeout=SECONDS + 120))
    finally:
        server.stop()
    cuts = statistics.quantiles(waits, n=100)
    rate = len(waits) / SECONDS
    case = f"{DEVICES} devices, {rate:.0f} heartbeats/s (s)"
    return [
        {"case": f"{case}, median", "value": round(cuts[49], 4)},
        {
            "case": f"{case}, p99",
            "value": round(cuts[98], 4),
            "target": f"at most {TARGET_SECONDS}",
            "met": cuts[98] <= TARGET_SECONDS,
        },
    ]


def registered(server: WorkbenchServer) -> list[Shown]:
    """Devices that have signed in. One pair of keys is enough for all: what they wait does not hang on it."""
    opening, signing = OpeningKey.generate(), SigningKey.generate()
    offer = {
        "public_keys": {"encryption": _text(opening.public.raw), "signing": _text(signing.public.raw)},
        "csr": request_for(signing).decode("ascii"),
    }
    with server.client() as http, ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda number: _enrolled(http, offer, signing, number), range(DEVICES)))


def _enrolled(http: httpx.Client, offer: dict[str, Any], signing: SigningKey, number: int) -> Shown:
    token = http.post("/workbench/v1/enrollment-tokens", json={}).raise_for_status().json()
    body = {
        "enrollment_token": token["enrollment_token"],
        "device_info": {"name": f"device {number}", "type": "bench", "capabilities": {}},
        "organization_id": "local",
        **offer,
    }
    device = http.post("/api/v1/devices/register", json=body).raise_for_status().json()["device_id"]
    moment, nonce = int(time.time()), secrets.token_hex(16)
    signature = signing.sign(assertion(device, moment, nonce), CONTEXT)
    shown = {"device_id": device, "timestamp": moment, "nonce": nonce, "signature": _text(signature)}
    answer = http.post("/workbench/v1/devices/token", json=shown).raise_for_status()
    return device, str(answer.json()["access_token"])


def polled(socket: str, devices: list[Shown]) -> list[float]:
    """What these devices wait, in a process of their own."""
    return asyncio.run(_poll(socket, devices))


async def _poll(socket: str, devices: list[Shown]) -> list[float]:
    lines = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
    for _ in range(64):
        lines.put_nowait(await asyncio.open_unix_connection(socket))
    waits: list[float] = []
    start = time.monotonic() + 0.5
    drawn = random.Random(0)  # noqa: S311  (it spreads devices out, and guards nothing)

    async def one(device: Shown, first: float) -> None:
        for turn in range(int(SECONDS / INTERVAL)):
            meant = start + first + turn * INTERVAL
            await asyncio.sleep(meant - time.monotonic())
            line = await lines.get()
            await _beat(*line, device)
            waits.append(time.monotonic() - meant)
            lines.put_nowait(line)

    await asyncio.gather(*(one(device, drawn.uniform(0, INTERVAL)) for device in devices))
    return waits


async def _beat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, device: Shown) -> None:
    """One sign of life, by hand: a client library would take more of the machine than the server."""
    name, token = device
    writer.write(
        (
            f"POST /workbench/v1/devices/{name}/heartbeat HTTP/1.1\r\nHost: workbench\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        ).encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    told = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"a heartbeat was refused: {json.loads(told)}")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
