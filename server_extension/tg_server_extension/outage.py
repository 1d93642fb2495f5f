"""Answers on the API's socket while nobody else does: no caller waits for an API that does not come up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from tg_server_extension.problem import Problem

PATIENCE_SECONDS = 5.0
LONGEST_HEAD = 64 * 1024


@contextlib.asynccontextmanager
async def outage(listener: socket.socket, problem: Problem) -> AsyncIterator[None]:
    """Within this block every request on the listening socket is answered with the problem."""
    answer = _Answer(problem)
    server = await asyncio.start_server(answer, sock=listener.dup(), limit=LONGEST_HEAD)
    try:
        yield
    finally:
        server.close()  # the duplicate; the socket itself goes on listening


class _Answer:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head.decode("latin1")))
                writer.write_eof()
                # Closing before the caller has sent everything would break its connection before it reads.
                while await reader.read(LONGEST_HEAD):
                    pass
        writer.close()

    def _response(self, head: str) -> bytes:
        names = (line.partition(":") for line in head.split("\r\n")[1:])
        accept = next((value for name, _, value in names if name.lower() == "accept"), "")
        kind, body = self._problem.render(accept)
        lines = [
            "HTTP/1.1 503 Service Unavailable",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Retry-After: 5",
            "Connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head.startswith("HEAD ") else body)
