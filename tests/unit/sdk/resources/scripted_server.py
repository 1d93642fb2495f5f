"""A real HTTP server on a Unix socket that does what a script says: it answers, or fails as networks fail."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Step = Callable[[socket.socket], None]
"""What to do with one request's connection; the server reads on unless the step closed it."""


def answer(body: Any, status: int = 200, **headers: str) -> Step:
    """A whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return lambda peer: peer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def refusal(code: str, status: int, message: str = "no", **details: Any) -> Step:
    """An answer that is an error, in the workbench's envelope."""
    return answer(
        {"error": {"code": code, "message": message, "details": details, "request_id": "req-1"}}, status
    )


def hang_up(peer: socket.socket) -> None:
    """Close without a word, as a killed process does."""
    peer.shutdown(socket.SHUT_RDWR)


def hang_up_midway(peer: socket.socket) -> None:
    """Promise 100 bytes, send some, close."""
    peer.sendall(b'HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{"half')
    hang_up(peer)


def keep_silent(peer: socket.socket) -> None:
    """Never answer; the caller must give up."""


def later(seconds: float, step: Step) -> Step:
    """The same, after a while."""

    def act(peer: socket.socket) -> None:
        time.sleep(seconds)
        step(peer)

    return act


def stream(*parts: bytes, hold: float = 0.0) -> Step:
    """Server-sent bytes in these chunks, kept open for a while, then cut off without an end."""

    def act(peer: socket.socket) -> None:
        peer.sendall(
            b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for part in parts:
            peer.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            time.sleep(0.01)
        time.sleep(hold)
        hang_up(peer)

    return act


def event(number: int, kind: str = "status", **data: Any) -> bytes:
    """One event as the workbench sends it."""
    told = {"id": number, "type": kind, "training_client_id": "tc-1", "at": 0.0, "data": data}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(told)}\n\n".encode()


@dataclass
class ScriptedServer:
    """Takes one step of its script for each request; the last one again for what comes after.

    A path that holds one of `routes` takes that step instead. A method in `raw` takes its step before
    anything of the request is read.
    """

    path: Path
    script: list[Step] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    routes: dict[str, Step] = field(default_factory=dict)
    raw: dict[str, Step] = field(default_factory=dict)
    peers: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _step_for(self, seen: Seen) -> Step:
        for part, step in self.routes.items():
            if part in seen.path:
                return step
        return self.script[min(len(self.seen), len(self.script) - 1)]

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _is_met_raw(self, peer: socket.socket) -> bool:
        method = peer.recv(8, socket.MSG_PEEK).split(b" ")[0].decode() if self.raw else ""
        if method not in self.raw:
            return False
        self.raw[method](peer)
        return True

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer, peer.makefile("rb") as reader:  # callers may go when they like
            while not self._is_met_raw(peer) and (seen := _read(reader)) is not None:
                with self._lock:
                    step = self._step_for(seen)
                    self.seen.append(seen)
                step(peer)


def _read(reader: Any) -> Seen | None:
    start = reader.readline()
    if not start:
        return None
    method, path, _ = start.decode().split(" ", 2)
    headers = {}
    while (line := reader.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return Seen(method, path, headers, reader.read(int(headers.get("content-length", 0))))
