"""A tiny real ASGI app in the API's place: run as the API is, with `--fd N --death-fd M`.

It tells what it saw (`/seen`, `/connections`), so that tests need not guess what crossed the proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MEBIBYTE = bytes(1024 * 1024)
uploads: dict[str, dict[str, Any]] = {}
streams: dict[str, str] = {}


async def start(send: Send, kind: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]}
    )


async def piece(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def answer(send: Send, facts: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(facts).encode()
    length = (b"content-length", str(len(body)).encode())
    await start(send, b"application/json", status, length, *headers)
    await piece(send, body, more=False)


async def read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What arrived: method, target, headers, body."""
    body = await read(receive)
    facts = {
        "pid": os.getpid(),
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode("latin1"), value.decode("latin1")] for name, value in scope["headers"]],
        "body": body.decode("latin1"),
    }
    await answer(send, facts)


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Count what comes, and how long it kept coming; `?name` makes it known at `/uploads`."""
    count, began, more = 0, time.monotonic(), True
    record = uploads.setdefault(scope["query_string"].decode(), {"left": False, "complete": False})
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            record.update(left=True)
            return
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
        record.update(bytes=count, complete=not more, seconds=time.monotonic() - began)
    await answer(send, record)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer before the body has come."""
    await answer(send, {"error": "too much"}, 413)


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """As many MiB as the query says."""
    count = int(scope["query_string"])
    await start(
        send, b"application/octet-stream", 200, (b"content-length", str(count * len(MEBIBYTE)).encode())
    )
    for sent in range(count):
        await piece(send, MEBIBYTE)
        streams[f"download {count}"] = str(sent + 1)
    await piece(send, b"", more=False)


async def die(scope: Scope, receive: Receive, send: Send) -> None:
    """Promise much, send a little, and be gone; `?chunked` without saying how much."""
    length = [] if scope["query_string"] == b"chunked" else [(b"content-length", b"1000000")]
    await start(send, b"text/plain", 200, *length)
    await piece(send, b"a beginning")
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


async def once(scope: Scope, receive: Receive, send: Send) -> None:
    """The first time never answer; after that, in this process or the next, at once. `?file` remembers."""
    body = await read(receive)
    file = Path(scope["query_string"].decode())
    if not file.exists():
        file.touch()
        await asyncio.sleep(600)
    await answer(send, {"pid": os.getpid(), "body": body.decode()})


async def hold(scope: Scope, receive: Receive, send: Send) -> None:
    """Read nothing at all."""
    await asyncio.sleep(600)


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Server-sent events every 20 ms, each with the time it was sent; `name` or `name=count`."""
    name, _, count = scope["query_string"].decode().partition("=")
    streams[name] = "open"
    gone = asyncio.create_task(until_gone(receive))
    await start(send, b"text/event-stream", 200, (b"cache-control", b"no-store"))
    for _ in range(int(count or 10**9)):
        if gone.done():
            break
        await piece(send, f"data: {time.monotonic()}\n\n".encode())
        await asyncio.sleep(0.02)
    else:
        await piece(send, b"", more=False)
    gone.cancel()
    streams[name] = "closed"


async def until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def odd(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer full of headers that must not reach the caller."""
    headers = [
        (b"connection", b"close, x-private"),
        (b"x-private", b"for the proxy only"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-authenticate", b"Basic"),
        (b"upgrade", b"h2c"),
        (b"trailer", b"x-late"),
        (b"set-cookie", b"_xsrf=planted"),
        (b"access-control-allow-origin", b"*"),
        (b"x-kept", b"one"),
        (b"x-kept", b"two"),
    ]
    await answer(send, {}, 200, *headers)


async def redirect(scope: Scope, receive: Receive, send: Send) -> None:
    """Elsewhere, as the query says."""
    await answer(send, {}, 307, (b"location", scope["query_string"]))


async def compressed(scope: Scope, receive: Receive, send: Send) -> None:
    """A body that is not ours to unpack: its encoding is named, its bytes say otherwise."""
    await start(send, b"text/plain", 200, (b"content-encoding", b"gzip"), (b"content-length", b"9"))
    await piece(send, b"not a zip", more=False)


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    """No content."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await piece(send, b"", more=False)


async def seen(scope: Scope, receive: Receive, send: Send) -> None:
    """What the other routes have noted."""
    await answer(
        send, {"pid": os.getpid(), "uploads": uploads, "streams": streams, "environ": dict(os.environ)}
    )


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept with the last protocol offered, tell the headers, then echo; `/refused` refuses."""
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[-1] if offered else None})
    headers = [[name.decode("latin1"), value.decode("latin1")] for name, value in scope["headers"]]
    await send({"type": "websocket.send", "text": json.dumps(headers)})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "leave":
            await send({"type": "websocket.close", "code": 4321, "reason": "asked to"})
            return
        kept = {name: value for name, value in message.items() if name != "type" and value is not None}
        await send({"type": "websocket.send", **kept})
    streams["websocket"] = f"closed {message['code']}"


ROUTES = {
    "/compressed": compressed,
    "/die": die,
    "/download": download,
    "/empty": empty,
    "/events": events,
    "/hold": hold,
    "/odd": odd,
    "/once": once,
    "/redirect": redirect,
    "/refuse": refuse,
    "/seen": seen,
    "/upload": upload,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    elif scope["type"] == "http":
        await ROUTES.get(scope["path"], echo)(scope, receive, send)


def leave_with_parent(death_fd: int) -> None:
    os.read(death_fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    parser.add_argument("--death-fd", type=int)
    options = parser.parse_args()
    threading.Thread(target=leave_with_parent, args=[options.death_fd], daemon=True).start()
    uvicorn.run(app, fd=options.fd, lifespan="off", timeout_graceful_shutdown=1)
