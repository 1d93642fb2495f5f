"""A request body on its way: a few pieces wait here, no more, until the API reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

MOST_WAITING = 4
MOST_KEPT_BYTES = 1024 * 1024


class Body:
    """Pieces go in at the pace at which they are taken out. A short body can be read again from its start."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._ended = False
        self._closed = False

    @property
    def may_be_read_again(self) -> bool:
        """Whether everything that was read so far is still here."""
        return self._kept_bytes <= MOST_KEPT_BYTES

    @property
    def is_closed(self) -> bool:
        """Whether nobody reads any more."""
        return self._closed

    async def feed(self, piece: bytes) -> None:
        """Add a piece, as soon as there is room."""
        if not self._closed:
            await self._pieces.put(piece)

    async def end(self) -> None:
        """Say that there is no more. Without it no reader takes the body for complete."""
        if not self._closed:
            await self._pieces.put(None)

    def close(self) -> None:
        """Nobody reads any more: whatever still comes is dropped."""
        self._closed = True
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def read(self) -> AsyncIterator[bytes]:
        """Every piece, those that an earlier reader took first."""
        for piece in tuple(self._kept):
            yield piece
        while not self._ended:
            piece_or_end = await self._pieces.get()
            if piece_or_end is None:
                self._ended = True
                return
            self._keep(piece_or_end)
            yield piece_or_end

    def _keep(self, piece: bytes) -> None:
        self._kept_bytes += len(piece)
        if self.may_be_read_again:
            self._kept.append(piece)
        else:
            self._kept.clear()
