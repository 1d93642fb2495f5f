"""Delimited: a CSV file as a table of texts. The structure is checked line by line before Polars reads it.

Commas, semicolons, tabs or bars, also named by a first line `sep=;`; UTF-8, or UTF-16 and UTF-32 that say
so by a byte order mark.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from tg_workbench.datasets.files.formats import LOOK_BYTES, bom_of
from tg_workbench.datasets.files.frames import check_names, few
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.datasets.files.notation import comma_columns, grouped_columns, with_points
from tg_workbench.datasets.raw_columns import is_missing
from tg_workbench.errors import DatasetInvalid

DELIMITERS = ",;\t|"
NAMED = re.compile(rb'"?sep=([,;\t|])"?\r?\n')
"""A line that spreadsheets write before the header, and read."""
NEWLINE = 10


@dataclass(frozen=True, slots=True)
class Span:
    """Some whole rows of the file: where they lie, and whether Polars reads them as the csv module does."""

    start: int
    length: int
    rows: int
    first_row: int
    first_line: int
    is_plain: bool


class CsvTable:
    """A CSV file whose every line has as many values as its header. Raises DatasetInvalid."""

    def __init__(self, source: Path, work: Path, limits: Limits) -> None:
        self._limits = limits
        self._source = as_utf8(source, work / "utf8.csv", limits)
        self._spans: list[Span] | None = None
        csv.field_size_limit(limits.field_bytes)
        with self._source.open("rb") as file:
            head = file.read(LOOK_BYTES)
            start, _ = bom_of(head)
            named = NAMED.match(head, start)
            start = start if named is None else named.end()
            text = head[start:].decode(errors="replace")
            self._delimiter = _delimiter(text) if named is None else named[1].decode()
            file.seek(start)
            header, self._data_start, self._header_lines = self._first(file, start, int(named is not None))
            self._header_bytes = head[start : self._data_start].strip()
        self.header = tuple(name.strip() for name in header)
        self._check_header()
        self._with_comma: tuple[int, ...] = ()
        self._grouped: tuple[int, ...] = ()
        self._maybe_grouped: tuple[int, ...] = ()
        if self._delimiter != ",":
            self._look_at_numbers(text, is_all=len(head) < LOOK_BYTES)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names; a nameless first one is an index and left out."""
        return self.header[self._left_out :]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was left out, and how numbers were read that can be read in two ways."""
        said = ["column 1 has no name: it is left out as an index of the rows"] * self._left_out
        for places, read in (
            (self._with_comma, "numbers have a decimal comma in {}: 1,5 is read as 1.5"),
            (self._grouped, "points are between thousands in {}: 1.234 is read as 1234"),
            (
                self._maybe_grouped,
                "in {} the points may be between thousands, and are read as decimal points: 1.234 is read as "
                "1.234. If it means 1234, write it without a point",
            ),
        ):
            if places:
                said.append(read.format(few([self.header[place] for place in places])))
        return tuple(said)

    @property
    def _left_out(self) -> int:
        return int(len(self.header) > 1 and not self.header[0])

    def place(self, row: int) -> str:
        """The row, and the line it begins on where no value has lines of its own."""
        for span in self._spans or ():
            if span.first_row <= row < span.first_row + span.rows and span.is_plain:
                return f"row {row} (line {span.first_line + row - span.first_row})"
        return f"row {row}"

    def frames(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """All values as texts. The first time every line is checked."""
        with self._source.open("rb") as file:
            if self._spans is None:
                found = []
                for span, data, rows in self._checked(file):
                    found.append(span)
                    yield span.first_row, self._frame(span, data, rows)
                self._spans = found
                return
            for span in self._spans:
                file.seek(span.start)
                data = file.read(span.length)
                rows = [] if span.is_plain else self._rows(data)
                yield span.first_row, self._frame(span, data, rows)

    # ------------------------------------------------------------------------------------- structure
    def _checked(self, file: IO[bytes]) -> Iterator[tuple[Span, bytes, list[list[str]]]]:
        file.seek(self._data_start)
        lines = _Lines(file, self._data_start, self._header_lines, self._limits)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        row = 1
        while True:
            if (block := self._block(file, lines.at)) and (height := self._plain_rows(block)):
                yield Span(lines.at, len(block), height, row, lines.number + 1, is_plain=True), block, []
                row += height
                lines.skip(len(block), height)
                self._check_rows(row)
                continue
            file.seek(lines.at)
            start, first_line = lines.at, lines.number + 1
            rows = self._next_rows(reader, lines)
            data = lines.taken()
            if not data:
                break
            kept = [values for values in rows if values]
            if not kept:
                continue
            is_plain = len(kept) == len(rows) == lines.number + 1 - first_line and b'"' not in data
            yield Span(start, len(data), len(kept), row, first_line, is_plain), data, kept
            row += len(kept)
            self._check_rows(row)
        if row == 1:
            raise DatasetInvalid("has a header and no rows")

    def _check_rows(self, row: int) -> None:
        if row > self._limits.rows + 1:
            raise DatasetInvalid(f"has more than {self._limits.rows:,} rows")

    def _block(self, file: IO[bytes], start: int) -> bytes:
        """The next whole lines."""
        file.seek(start)
        block = file.read(self._limits.chunk_bytes)
        is_last = len(block) < self._limits.chunk_bytes
        return block if is_last else block[: block.rfind(b"\n") + 1]

    def _plain_rows(self, block: bytes) -> int:
        """How many rows a block has, if a look at its bytes shows that all of them are in order; else 0."""
        if b'"' in block or b"\0" in block or block.count(b"\r") != block.count(b"\r\n"):
            return 0
        if (len(self.header) > 1 and self._header_bytes in block) or not _is_utf8(block):
            return 0
        data = np.frombuffer(block if block.endswith(b"\n") else block + b"\n", dtype=np.uint8)
        ends = np.flatnonzero(data == NEWLINE)
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts
        cuts = np.add.reduceat(data == ord(self._delimiter), starts, dtype=np.int64)
        blank = 1 if b"\r" in block else 0
        if lengths.min() <= blank or lengths.max() > self._limits.field_bytes:
            return 0
        return len(ends) if bool((cuts == len(self.header) - 1).all()) else 0

    def _next_rows(self, reader: Iterator[list[str]], lines: _Lines) -> list[list[str]]:
        """Rows until enough text was taken, each as wide as the header."""
        width, rows, wrong = len(self.header), [], []
        repeated = list(self.header) if width > 1 else None
        try:
            for values in reader:
                rows.append(values)
                if len(values) != width and values:
                    wrong.append((lines.number, f"has {len(values)} values; the header has {width}"))
                elif values == repeated:
                    wrong.append((lines.number, "is the header once more"))
                if lines.held >= self._limits.chunk_bytes or len(wrong) >= DatasetInvalid.MOST:
                    break
        except csv.Error as failure:
            raise DatasetInvalid(_said(failure, self._limits), f"line {lines.number}") from None
        if wrong:
            raise DatasetInvalid.of([(f"line {line}", problem) for line, problem in wrong])
        return rows

    def _frame(self, span: Span, data: bytes, rows: list[list[str]]) -> pl.DataFrame:
        columns = [str(number) for number in range(len(self.header))]
        frame = None
        if span.is_plain:
            schema = dict.fromkeys(columns, pl.String)
            frame = pl.read_csv(
                data, has_header=False, separator=self._delimiter, quote_char=None, schema=schema
            )
        if frame is None or frame.height != span.rows:
            held = rows or self._rows(data)
            frame = pl.DataFrame(
                [
                    pl.Series(name, values, dtype=pl.String)
                    for name, values in zip(columns, zip(*held, strict=True), strict=True)
                ]
            )
        if written := (*self._with_comma, *self._grouped):
            frame = with_points(frame, written)
        if self._left_out:
            frame = frame.select(pl.nth(number).alias(str(number - 1)) for number in range(1, frame.width))
        return frame

    def _rows(self, data: bytes) -> list[list[str]]:
        lines = _lines(data.decode())
        return [values for values in csv.reader(lines, delimiter=self._delimiter, strict=True) if values]

    def _look_at_numbers(self, text: str, *, is_all: bool) -> None:
        """In which columns the file's beginning, or all of it, shows decimal commas or grouped thousands."""
        try:
            rows = [row for row in csv.reader(_lines(text), delimiter=self._delimiter) if row]
        except csv.Error:
            return
        whole, width = rows[1:-1] or rows[1:], len(self.header)  # the last row may be cut off
        self._with_comma = comma_columns(whole, width)
        grouped = grouped_columns(rows[1:] if is_all else whole, width)
        certain = {place for place, is_certain in grouped.items() if is_certain or self._with_comma}
        kept = {place for place in grouped if place >= self._left_out} - {*self._with_comma}
        self._grouped = tuple(sorted(kept & certain))
        self._maybe_grouped = tuple(sorted(kept - certain))

    # ---------------------------------------------------------------------------------------- header
    def _first(self, file: IO[bytes], start: int, before: int) -> tuple[list[str], int, int]:
        lines = _Lines(file, start, before, self._limits)
        try:
            for values in csv.reader(lines, delimiter=self._delimiter, strict=True):
                if values:
                    return values, lines.at, lines.number
        except csv.Error as failure:
            raise DatasetInvalid(_said(failure, self._limits), "line 1") from None
        raise DatasetInvalid("is empty")

    def _check_header(self) -> None:
        numbers = [name for name in self.header if _is_number(name)]
        counted = [[str(n + first) for n in range(len(numbers))] for first in (0, 1)]
        is_counted = len(numbers) > 2 and numbers in counted  # 0, 1, 2 … is what data frames are called by
        odd = any(not name.isdigit() for name in numbers)
        if numbers and not is_counted and (odd or len(numbers) == len(self.header)):
            raise DatasetInvalid("holds numbers where the names of the columns should be", "line 1")
        if all(is_missing(name) for name in self.header):
            raise DatasetInvalid("has no names of columns", "line 1")
        check_names(self.names, self._limits)


class _Lines:
    """The lines of a file as texts, counted, and the bytes of those since `taken` was last asked."""

    def __init__(self, file: IO[bytes], at: int, number: int, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._held: list[bytes] = []
        self.at = at
        self.number = number
        self.held = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._limits.line_bytes + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > self._limits.line_bytes:
            raise DatasetInvalid(f"is longer than {self._limits.line_bytes:,} bytes", f"line {self.number}")
        if b"\0" in line:
            raise DatasetInvalid("holds a NUL character", f"line {self.number}")
        try:
            text = line.decode()
        except UnicodeDecodeError as failure:
            raise DatasetInvalid(
                f"is not UTF-8 at byte {self.at + failure.start:,} of the file: save it as UTF-8",
                f"line {self.number}",
            ) from None
        self._held.append(line)
        self.held += len(line)
        self.at += len(line)
        return text

    def skip(self, length: int, lines: int) -> None:
        """Lines that were read by somebody else."""
        self.at += length
        self.number += lines

    def taken(self) -> bytes:
        """The bytes of the lines that were read since."""
        data = b"".join(self._held)
        self._held.clear()
        self.held = 0
        return data


def as_utf8(source: Path, copy: Path, limits: Limits) -> Path:
    """The file itself, or a copy in UTF-8 when a byte order mark says that it is UTF-16 or UTF-32."""
    with source.open("rb") as file:
        mark, encoding = bom_of(file.read(4))
        if encoding == "utf-8":
            return source
        file.seek(mark)
        decoder = codecs.getincrementaldecoder(encoding)()
        with copy.open("xb") as out:
            try:
                while piece := file.read(1 << 20):
                    out.write(decoder.decode(piece).encode())
                out.write(decoder.decode(b"", final=True).encode())
            except UnicodeError:
                near = f"{file.tell():,}"
                raise DatasetInvalid(f"is not {encoding.upper()} somewhere before byte {near}") from None
    return copy


def _delimiter(text: str) -> str:
    """The one that cuts the first lines into equally many values, and the most."""
    counts = {}
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in islice(csv.reader(_lines(text), delimiter=delimiter), 20) if row]
        except csv.Error:
            continue
        widths = [len(row) for row in rows[:-1] or rows]
        agreed = sum(width == widths[0] for width in widths) if widths else 0
        counts[delimiter] = (agreed * 2 > len(widths), widths[0] if widths else 0)
    best = max(counts, key=lambda delimiter: counts[delimiter], default=",")
    return best if counts.get(best, (False, 0))[1] > 1 else ","


def _lines(text: str) -> StringIO:
    """Lines that end in a line feed, and in nothing else that Unicode may call an end."""
    return StringIO(text, newline="\n")


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return not is_missing(name)


def _said(failure: csv.Error, limits: Limits) -> str:
    """The csv module's complaint in our words; its own could hold a part of the line."""
    text = str(failure)
    if "field limit" in text:
        return f"has a value of more than {limits.field_bytes:,} characters"
    if "new-line" in text:
        return "ends in a bare carriage return: save the file with line feeds"
    return "has a quotation mark that is never closed, or text after one that is"
