"""A body that is too large to be held: read as it comes, handed on a mebibyte at a time, in threads.

The event loop only cuts and copies; hashing, writing and syncing are done while it serves others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request

from tg_workbench.contracts.bodies import media_type
from tg_workbench.errors import InvalidRequest, UploadTooSlow
from tg_workbench.settings import Settings
from tg_workbench.storage import Appended

OCTETS = "application/octet-stream"
PIECE_BYTES = 1 << 20
STALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a body may come, so that nobody holds a place in the intake by dripping."""

    bytes_per_second: int
    grace_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Pace:
        """What the settings allow."""
        return cls(settings.min_upload_rate, settings.upload_grace_seconds)

    def seconds_for(self, received: int) -> float:
        """How long may have been waited, in all, for so many bytes and one more."""
        return max(self.grace_seconds, received / self.bytes_per_second)


async def chunks_of(request: Request, pace: Pace) -> AsyncIterator[bytes]:
    """The body as it comes. Raises UploadTooSlow, ClientDisconnect.

    Only what is waited for the client counts: not how long it takes to write what it has sent.
    """
    stream, received, waited = aiter(request.stream()), 0, 0.0
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(STALL_SECONDS, pace.seconds_for(received) - waited)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise UploadTooSlow(pace.bytes_per_second) from None
        waited += time.monotonic() - began
        received += len(chunk)
        if chunk:
            yield chunk


def offset_of(request: Request, offset: int | None) -> int:
    """Where the piece of an upload that a request brings belongs. Raises InvalidRequest for anything else."""
    if offset is None or media_type(request) != OCTETS:
        raise InvalidRequest(f"send bytes, with Content-Type: {OCTETS} and their Upload-Offset")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequest("send the bytes as they are: no Content-Encoding is taken")
    return offset


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


async def write_body(
    request: Request,
    pace: Pace,
    appended: Appended,
    look: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Write a body as it comes, to the disk; of a line that is slow, or breaks, what has come is there too.

    `look` may stop it after any chunk. Raises what `appended` and `look` do, UploadTooSlow, ClientDisconnect.
    """
    pieces = Pieces(appended.write)
    try:
        async for chunk in chunks_of(request, pace):
            pieces.add(chunk)
            await pieces.pass_on()
            if look is not None:
                await look()
    finally:
        try:
            await pieces.pass_on(all_of_it=True)
        finally:
            await finished(appended.settle)


async def finished(function: Callable[..., None], *given: bytearray) -> None:
    """Call it in a thread. One who is cancelled waits for its end: the file must not be closed before."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *given))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
