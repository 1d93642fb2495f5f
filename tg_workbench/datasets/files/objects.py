"""Objects: JSON as a table: JSON Lines, a list of objects, {"data": [...]}, or an object of columns.

Lists and lines are read one object at a time, an object of columns as a whole and up to a bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import IO, Any

import polars as pl

from tg_workbench.datasets.files.delimited import as_utf8
from tg_workbench.datasets.files.formats import bom_of
from tg_workbench.datasets.files.frames import check_names, frame_of
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.errors import DatasetInvalid

PIECE = 1 << 18
BLANKS = " \t\r\n"
ROWS_AT_ONCE = 1 << 14
CELLS_AT_ONCE = 1 << 19
WRAPPER = "data"
STRANGE = (
    "has a column that the first row has not: give the first row all of them, with null where it has nothing"
)


class ObjectsTable:
    """A table of JSON objects: all with the same names, each value plain. Raises DatasetInvalid."""

    warnings: tuple[str, ...] = ()

    def __init__(self, source: Path, file_format: str, work: Path, limits: Limits) -> None:
        self._limits = limits
        self._source = as_utf8(source, work / "utf8.json", limits)
        self._is_lines = file_format == "jsonl"
        self._columns: dict[str, list[Any]] | None = None
        if not self._is_lines:
            self._columns = self._object_of_columns()
        first = next(self._rows(), None) if self._columns is None else None
        if self._columns is None and first is None:
            raise DatasetInvalid("holds no rows")
        self.names = tuple(self._columns or first or ())
        if not self.names:
            raise DatasetInvalid("has no columns", "row 1")
        check_names(self.names, limits)

    def place(self, row: int) -> str:
        """The row's number."""
        return f"row {row}"

    def frames(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows, each column in the type of its values."""
        size = max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // len(self.names)))
        if self._columns is not None:
            height = len(self._columns[self.names[0]])
            for start in range(0, height, size):
                part = [values[start : start + size] for values in self._columns.values()]
                yield start + 1, self._frame(part, start + 1)
            return
        held: list[list[Any]] = []
        first, characters = 1, 0
        for row in self._rows():
            held.append(self._checked(row, first + len(held)))
            characters += sum(len(value) for value in held[-1] if isinstance(value, str))
            if len(held) == size or characters > self._limits.chunk_bytes:
                yield first, self._frame(zip(*held, strict=True), first)
                first, held, characters = first + len(held), [], 0
                if first > self._limits.rows:
                    raise DatasetInvalid(f"has more than {self._limits.rows:,} rows")
        if held:
            yield first, self._frame(zip(*held, strict=True), first)

    def _checked(self, row: dict[str, Any], number: int) -> list[Any]:
        """One row's values in the order of the first row's names; a name left out is a missing value."""
        values = [row.get(name) for name in self.names]
        is_whole = len(row) == len(self.names) and None not in values
        if not is_whole and not row.keys() <= set(self.names):
            raise DatasetInvalid(STRANGE, f"row {number}")
        return values

    def _frame(self, columns: Iterable[Sequence[Any]], first: int) -> pl.DataFrame:
        held = list(columns)
        for name, values in zip(self.names, held, strict=True):
            _check_values(values, first, name, self._limits)
        return frame_of(held)

    # ------------------------------------------------------------------------------------------ reading
    def _rows(self) -> Iterator[dict[str, Any]]:
        with self._source.open("rb") as file:
            file.seek(bom_of(file.read(4))[0])
            yield from self._lines(file) if self._is_lines else _List(file, self._limits).rows()

    def _lines(self, file: IO[bytes]) -> Iterator[dict[str, Any]]:
        number, limit = 0, self._limits.line_bytes
        decoder = json.JSONDecoder(object_pairs_hook=_unique)
        while line := file.readline(limit + 1):
            number += 1
            where = f"line {number}"
            if len(line) > limit:
                raise DatasetInvalid(f"is longer than {limit:,} bytes", where)
            if not line.strip():
                continue
            try:
                row = decoder.decode(line.decode())
            except UnicodeDecodeError as failure:
                raise DatasetInvalid(f"is not UTF-8 at its byte {failure.start + 1:,}", where) from None
            except (ValueError, RecursionError) as failure:
                raise DatasetInvalid(_said(failure), where) from None
            yield _row(row, where)

    def _object_of_columns(self) -> dict[str, list[Any]] | None:
        """The columns of an object of lists; None when the file is a list of rows."""
        with self._source.open("rb") as file:
            file.seek(bom_of(file.read(4))[0])
            if _is_list(file):
                return None
            told = self._whole(file)
        if not isinstance(told, dict):
            raise DatasetInvalid("is neither a list of objects nor an object of columns")
        lists = {name: list(v.values()) if isinstance(v, dict) else v for name, v in told.items()}
        if not lists or not all(isinstance(values, list) for values in lists.values()):
            raise DatasetInvalid(
                'is neither a list of objects, nor {"data": [...]}, nor an object of columns'
            )
        lengths = {len(values) for values in lists.values()}
        if len(lengths) != 1 or lengths == {0}:
            raise DatasetInvalid("has columns of different lengths, or without a row")
        if lengths.pop() > self._limits.rows:
            raise DatasetInvalid(f"has more than {self._limits.rows:,} rows")
        return lists

    def _whole(self, file: IO[bytes]) -> Any:
        data = file.read(self._limits.json_bytes + 1)
        if len(data) > self._limits.json_bytes:
            raise DatasetInvalid(
                f"is an object of columns of more than {self._limits.json_bytes:,} bytes: send JSON Lines"
            )
        try:
            return json.loads(data, object_pairs_hook=_unique)
        except UnicodeDecodeError as failure:
            raise DatasetInvalid(f"is not UTF-8 at byte {failure.start:,}") from None
        except (ValueError, RecursionError) as failure:
            raise DatasetInvalid(_said(failure)) from None


class _List:
    """A JSON list of objects, or one under the name `data`, read object by object."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._decoder = json.JSONDecoder(object_pairs_hook=_unique)
        self._tail = b""
        self._text = ""
        self._at = 0
        self._ended = False

    def rows(self) -> Iterator[dict[str, Any]]:
        is_wrapped = self._next() == "{"
        if is_wrapped:
            self._at = self._text.index("[") + 1
        else:
            self._take("[", "must begin with a bracket")
        number = 0
        while self._next() != "]":
            number += 1
            if number > 1:
                self._take(",", f"lacks a comma before row {number}")
            row = self._value(number)
            yield _row(row, f"row {number}")
        self._take("]", "is cut off")
        if is_wrapped:
            self._take("}", 'has more beside "data"')
        if self._next():
            raise DatasetInvalid("goes on after its end")

    def _value(self, number: int) -> Any:
        """The next value, with more of the file as long as it does not end within what is there."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as failure:
                raise DatasetInvalid(_said(failure), f"row {number}") from None
            except ValueError as failure:
                if not isinstance(failure, JSONDecodeError) or self._ended:
                    raise DatasetInvalid(_said(failure), f"row {number}") from None
                if len(self._text) - self._at > self._limits.line_bytes:
                    raise DatasetInvalid(
                        f"is not JSON, or longer than {self._limits.line_bytes:,} bytes", f"row {number}"
                    ) from None
                self._more()
                continue
            self._at = end
            return value

    def _next(self) -> str:
        """The next character that is not blank, not taken; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in BLANKS:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def _take(self, character: str, problem: str) -> None:
        if self._next() != character:
            raise DatasetInvalid(problem)
        self._at += 1

    def _more(self) -> None:
        place = self._file.tell() - len(self._tail)
        piece = self._tail + self._file.read(PIECE)
        self._ended = len(piece) == len(self._tail)
        try:
            text, self._tail = piece.decode(), b""
        except UnicodeDecodeError as failure:
            if failure.end < len(piece) or self._ended or len(piece) - failure.start > 3:
                raise DatasetInvalid(f"is not UTF-8 at byte {place + failure.start:,}") from None
            text, self._tail = piece[: failure.start].decode(), piece[failure.start :]
        self._text = self._text[self._at :] + text
        self._at = 0


def _is_list(file: IO[bytes]) -> bool:
    """Whether the file begins a list, or an object whose only member is `data`, a list of objects."""
    start = file.tell()
    head = file.read(4096).decode(errors="replace").lstrip()
    file.seek(start)
    if head.startswith("["):
        return True
    rest = head.removeprefix("{").lstrip()
    if not rest.startswith(f'"{WRAPPER}"'):
        return False
    rest = rest.removeprefix(f'"{WRAPPER}"').lstrip().removeprefix(":").lstrip()
    return rest.startswith("[") and rest.removeprefix("[").lstrip().startswith("{")


def _check_values(values: Sequence[Any], first: int, name: str, limits: Limits) -> None:
    """Look at all at once, and at each only where something is wrong."""
    kinds = set(map(type, values))
    words = [value for value in values if type(value) is str] if str in kinds else []
    text = "".join(words)
    is_odd = bool(kinds & {dict, list}) or "\0" in text or not _is_sound(text)
    if is_odd or (words and max(map(len, words)) > limits.field_bytes):
        for row, value in enumerate(values, first):
            _check_value(value, f"row {row}, column {name}", limits)


def _is_sound(text: str) -> bool:
    """Whether no half of a character stands alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_value(value: Any, where: str, limits: Limits) -> None:
    if isinstance(value, dict | list):
        raise DatasetInvalid("holds a list or an object where one plain value should be", where)
    if isinstance(value, str):
        if len(value) > limits.field_bytes:
            raise DatasetInvalid(f"has more than {limits.field_bytes:,} characters", where)
        if "\0" in value:
            raise DatasetInvalid("holds a NUL character", where)
        if not _is_sound(value):
            raise DatasetInvalid("holds half a character (a lone surrogate)", where)


def _row(value: Any, where: str) -> dict[str, Any]:
    """An object is a row; a text alone is one of a single column."""
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise DatasetInvalid("is not a JSON object", where)
    return value


class _Twice(ValueError):
    """A name that an object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _said(failure: Exception) -> str:
    """The parser's complaint in our words: its own could hold a part of the text."""
    if isinstance(failure, RecursionError):
        return "is nested too deep"
    if isinstance(failure, _Twice):
        return "has two columns of the same name"
    if isinstance(failure, JSONDecodeError):
        return (
            f"is not JSON, from its character {failure.pos + 1:,} on"
            if failure.lineno == 1
            else "is not JSON"
        )
    return "holds a number that is too long"
