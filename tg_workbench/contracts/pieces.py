"""A body that is too large to be held: read as it comes, handed on a mebibyte at a time, in threads.

The event loop only cuts and copies; hashing and writing are done while it serves others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request

from tg_workbench.errors import InvalidRequest

PIECE_BYTES = 1 << 20
STALL_SECONDS = 60.0


async def chunks_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises InvalidRequest when nothing comes for a minute, ClientDisconnect."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise InvalidRequest(f"nothing more has come for {STALL_SECONDS:g} seconds") from None
        if chunk:
            yield chunk


class Pieces:
    """Bytes that are gathered, and written a piece at a time."""

    def __init__(self, write: Callable[[bytearray], None]) -> None:
        self._write = write
        self._waiting = bytearray()

    def add(self, chunk: bytes | memoryview) -> None:
        """Let it wait."""
        self._waiting += chunk

    async def pass_on(self, *, all_of_it: bool = False) -> None:
        """Write what waits, once it is a piece. Raises what `write` does."""
        if len(self._waiting) < (1 if all_of_it else PIECE_BYTES):
            return
        piece, self._waiting = self._waiting, bytearray()
        await finished(self._write, piece)


async def finished(function: Callable[[bytearray], None], piece: bytearray) -> None:
    """Call it in a thread. One who is cancelled waits for its end: the file must not be closed before."""
    task = asyncio.ensure_future(asyncio.to_thread(function, piece))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
