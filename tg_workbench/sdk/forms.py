"""Forms with a file in them (RFC 7578), sent from disk as they are read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from tg_workbench.sdk.connection import StreamedBody
from tg_workbench.sdk.sources import SourceFile

PIECE_BYTES = 1 << 20
_UNFIT = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


def form_of(file: SourceFile, fields: Mapping[str, Any]) -> StreamedBody:
    """A form of some fields and a file. What is neither text nor number travels as JSON."""
    boundary = secrets.token_hex(16)
    parts = [_part(boundary, f'name="{name}"', _text(value)) for name, value in fields.items()]
    named = f'name="file"; filename="{file.name.translate(_UNFIT)}"'
    head = b"".join(parts) + _part(boundary, named, "")[:-2]
    tail = f"\r\n--{boundary}--\r\n".encode()
    content = _Content(file, head, tail)
    size = len(head) + file.size + len(tail)
    return StreamedBody(content, f"multipart/form-data; boundary={boundary}", size)


class _Content:
    """The bytes of a form, from the start each time they are gone through."""

    def __init__(self, file: SourceFile, head: bytes, tail: bytes) -> None:
        self._file = file
        self._head = head
        self._tail = tail

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._file.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        yield self._tail


def _part(boundary: str, named: str, value: str) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {named}\r\n\r\n{value}\r\n".encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
