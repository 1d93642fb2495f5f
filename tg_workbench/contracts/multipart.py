"""Multipart forms with one file in them: the file goes straight to where it will stay, the fields are few.

The parts may come in any order. What is refused: a second file, a field that comes twice, a name or a value
that no text may hold, headers and fields without end, and a body that stops before its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from tg_workbench.contracts.bodies import media_type
from tg_workbench.contracts.pieces import Pace, Pieces, chunks_of
from tg_workbench.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MULTIPART = "multipart/form-data"
FILE = "file"
MOST_FIELDS, LONGEST_FIELD, LONGEST_FILE_NAME = 32, 64 << 10, 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
MALFORMED = "this is not a form with a file: send multipart/form-data as RFC 7578 has it"


@dataclass
class _Part:
    """A part that is being read."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class FormReader:
    """Takes a form apart as it comes: `fields`, `file_name`, and the file's bytes to `file`."""

    def __init__(self, boundary: bytes, file: Pieces) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.is_whole = False
        self._file = file
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_header_field": self._take_name,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_end": self._finish,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises InvalidRequest."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise InvalidRequest(MALFORMED) from None

    def _begin(self) -> None:
        self._part = _Part()

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers.append((bytes(name).lower(), bytes(value)))
        self._header = (bytearray(), bytearray())

    def _open(self) -> None:
        """A part's headers are known: what it is called, and whether it is the file."""
        dispositions = [value for name, value in self._part.headers if name == b"content-disposition"]
        kind, options = parse_options_header(dispositions[0] if len(dispositions) == 1 else b"")
        if kind != b"form-data" or b"name" not in options:
            raise InvalidRequest(MALFORMED)
        self._part.name = _text(options[b"name"])
        self._part.is_file = b"filename" in options
        if self._part.is_file:
            if self._part.name != FILE or self.file_name is not None:
                raise InvalidRequest("send one file, in the part that is named 'file'")
            self.file_name = file_name_of(_text(options[b"filename"]))
        elif self._part.name in self.fields:
            raise InvalidRequest("a field comes twice")
        elif len(self.fields) >= MOST_FIELDS:
            raise InvalidRequest(f"a form has at most {MOST_FIELDS} fields")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._file.add(memoryview(data)[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > LONGEST_FIELD:
            raise InvalidRequest(f"a field holds at most {LONGEST_FIELD} bytes")

    def _end(self) -> None:
        if not self._part.is_file:
            self.fields[self._part.name] = _text(bytes(self._part.value), lines=True)

    def _finish(self) -> None:
        self.is_whole = True


async def read_form_with_file(request: Request, pace: Pace, write: Callable[[bytearray], None]) -> FormReader:
    """Read a whole form, handing its file to `write`.

    Raises InvalidRequest, RequestValidationError, UploadTooSlow.
    """
    if media_type(request) != MULTIPART:
        raise InvalidRequest(MALFORMED)
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise InvalidRequest("the Content-Type of a form names its boundary")
    pieces = Pieces(write)
    form = FormReader(boundary, pieces)
    async for chunk in chunks_of(request, pace):
        form.feed(chunk)
        await pieces.pass_on()
    await pieces.pass_on(all_of_it=True)
    if not form.is_whole:
        raise InvalidRequest("the form stops before its end")
    if form.file_name is None:
        raise RequestValidationError([{"type": "missing", "loc": ("body", FILE), "msg": "Field required"}])
    return form


def file_name_of(told: str) -> str:
    """The last part of what a client calls its file, fit for a header. Raises InvalidRequest."""
    name = re.split(r"[/\\]", told)[-1].strip()
    if name in ("", ".", "..") or len(name) > LONGEST_FILE_NAME or _CONTROL.search(name):
        raise InvalidRequest(f"a file has a name of 1 to {LONGEST_FILE_NAME} characters that can be written")
    return name


def _text(told: bytes, *, lines: bool = False) -> str:
    """Bytes as text. Raises InvalidRequest for what is not UTF-8, and for control characters."""
    try:
        text = told.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the names and fields of a form are texts in UTF-8") from None
    if _CONTROL.search(re.sub(r"[\n\r\t]", "", text) if lines else text):
        raise InvalidRequest("a name or a field holds control characters")
    return text
