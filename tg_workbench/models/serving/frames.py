"""Frames: how the API and a model's worker talk over a Unix socket. A header in JSON, then bytes as they are.

Four letters, two lengths, the header, the payload: both lengths are bounded, and nothing in a frame is ever
run as code. What the payload holds (JSON, raw little-endian tensors, or a text) the header says.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.errors import WorkbenchError

MAGIC = b"tgf1"
MOST_HEADER = 64 << 10
MOST_PAYLOAD = 256 << 20
_PREFIX = struct.Struct("<4sII")


class BadFrame(WorkbenchError):
    """What came is no frame of ours, or larger than frames may be. Nothing after it can be read."""

    def __init__(self) -> None:
        super().__init__("the bytes on this socket are no frame")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    header: dict[str, Any]
    payload: bytes = field(default=b"", repr=False)

    def encoded(self) -> bytes:
        """The frame as it is sent. Raises BadFrame."""
        header = json.dumps(self.header).encode()
        if len(header) > MOST_HEADER or len(self.payload) > MOST_PAYLOAD:
            raise BadFrame
        return b"".join((_PREFIX.pack(MAGIC, len(header), len(self.payload)), header, self.payload))


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None when the other side has closed. Raises BadFrame, ConnectionError."""
    try:
        magic, header_bytes, payload_bytes = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise BadFrame from None
        return None
    if magic != MAGIC or header_bytes > MOST_HEADER or payload_bytes > MOST_PAYLOAD:
        raise BadFrame
    try:
        header = json.loads(await reader.readexactly(header_bytes))
        payload = await reader.readexactly(payload_bytes) if payload_bytes else b""
    except (asyncio.IncompleteReadError, ValueError) as failure:
        raise BadFrame from failure
    if not isinstance(header, dict):
        raise BadFrame
    return Frame(header, payload)
