"""Parquet: a table whose footer and page headers are read before Polars decodes a page of it.

A page says how large it becomes; a small file can say terabytes. Source: the Parquet format's parquet.thrift
and Thrift's compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.files.frames import check_names
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.errors import DatasetInvalid

MAGIC = b"PAR1"
CELLS_AT_ONCE = 1 << 20
ROWS_AT_ONCE = 1 << 16
PAGE_HEADER_BYTES = 1 << 16
DEPTH = 16
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
# The members we ask for, by their field numbers in parquet.thrift.
SCHEMA, ROWS, GROUPS = 2, 3, 4
CHUNKS, META = 1, 3
PACKED, DATA_PAGE, DICTIONARY_PAGE = 7, 9, 11
PAGE_UNPACKED, PAGE_PACKED = 2, 3
PLAIN = (pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Categorical, pl.Enum, pl.Null)


class ParquetTable:
    """A Parquet file of plain columns. Raises DatasetInvalid."""

    warnings: tuple[str, ...] = ()

    def __init__(self, source: Path, limits: Limits) -> None:
        self._limits = limits
        self._source = source
        check_sizes(source, limits)
        try:
            schema = pl.read_parquet_schema(source)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as failure:
            raise DatasetInvalid("is a damaged Parquet file") from failure
        self.names = tuple(schema)
        check_names(self.names, limits)
        nested = [name for name, kind in schema.items() if not (kind.is_numeric() or kind in PLAIN)]
        if nested:
            raise DatasetInvalid(
                "is of a type that is not taken: lists, structs, bytes and times are no plain values",
                *(f"column {name}" for name in nested),
            )
        self._schema = schema

    def place(self, row: int) -> str:
        """The row's number."""
        return f"row {row}"

    def frames(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows; dates as ISO texts, decimals as floats."""
        size = max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // max(1, len(self.names))))
        plain = [_plain(place, kind) for place, kind in enumerate(self._schema.values())]
        row, left = 1, self._limits.decoded_bytes
        try:
            lazy = pl.scan_parquet(self._source, glob=False).select(plain)
            for frame in lazy.collect_batches(chunk_size=size, maintain_order=True, lazy=True):
                sizes = _text_bytes(frame)
                left -= int(sizes.sum())
                if left < 0:
                    raise DatasetInvalid(f"would decode to more than {self._limits.decoded_bytes:,} bytes")
                for start, end in _cuts(sizes, size, self._limits.chunk_bytes):
                    yield row, self._checked(frame[start:end], row)
                    row += end - start
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as failure:
            raise DatasetInvalid("is a damaged Parquet file") from failure

    def _checked(self, frame: pl.DataFrame, row: int) -> pl.DataFrame:
        frame = frame.cast({pl.Categorical: pl.String, pl.Enum: pl.String})
        for column in frame.iter_columns():
            if column.dtype == pl.String:
                odd = column.str.contains("\0", literal=True) | (
                    column.str.len_bytes() > self._limits.field_bytes
                )
                if odd.any():
                    number = row + int(odd.fill_null(value=False).arg_true()[0])
                    raise DatasetInvalid(
                        f"holds a NUL character, or more than {self._limits.field_bytes:,} bytes",
                        f"row {number}, column {self.names[int(column.name)]}",
                    )
        return frame


def _plain(place: int, kind: pl.DataType) -> pl.Expr:
    column = pl.nth(place).alias(str(place))
    if isinstance(kind, pl.Datetime) and kind.time_zone:
        column = column.dt.convert_time_zone("UTC")  # as dates with a zone are read wherever they are texts
    if kind in (pl.Date, pl.Datetime):
        form = "%Y-%m-%d" if kind == pl.Date else "%Y-%m-%dT%H:%M:%S%.f"
        return column.dt.to_string(form)
    if kind == pl.Null:
        return column.cast(pl.String)
    return column.cast(pl.Float64) if kind.is_decimal() else column


def _text_bytes(frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    """How many bytes of text each row has: repeated ones are one in the file, and in the frame, only."""
    sizes = np.zeros(frame.height, dtype=np.int64)
    for column in frame.iter_columns():
        if column.dtype == pl.String:
            sizes += column.str.len_bytes().fill_null(0).to_numpy()
        elif column.dtype in (pl.Categorical, pl.Enum):
            sizes += column.cat.len_bytes().fill_null(0).to_numpy()
    return sizes


def _cuts(sizes: npt.NDArray[np.int64], rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where to cut a frame, so that a piece has so many rows and so much text at most, or one row."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + most, side="right"))
        end = max(start + 1, min(start + rows, fitting))
        yield start, end
        start = end


# ------------------------------------------------------------------------------------------- sizes
def check_sizes(source: Path, limits: Limits) -> None:
    """Refuse a file that would decode to more than may be. Raises DatasetInvalid."""
    with source.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - 8))
        size, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
        if magic != MAGIC or size > length - 12:
            raise DatasetInvalid("is a Parquet file that is cut off")
        if size > limits.footer_bytes:
            raise DatasetInvalid(f"has a footer of more than {limits.footer_bytes:,} bytes")
        file.seek(length - 8 - size)
        footer = _read(file.read(size))
        rows, columns = footer.get(ROWS), len(_members(footer, SCHEMA))
        if not isinstance(rows, int) or rows < 0:
            raise DatasetInvalid("is a damaged Parquet file")
        if rows == 0:
            raise DatasetInvalid("holds no rows")
        if rows > limits.rows:
            raise DatasetInvalid(f"has more than {limits.rows:,} rows")
        if columns - 1 > limits.columns:
            raise DatasetInvalid(f"has more than {limits.columns:,} columns")
        total = 0
        for meta in _chunks(footer):
            total += _unpacked(file, meta, length, limits)
            if total > limits.decoded_bytes:
                raise DatasetInvalid(f"would decode to more than {limits.decoded_bytes:,} bytes")


def _chunks(footer: dict[int, Any]) -> Iterator[dict[int, Any]]:
    for group in _members(footer, GROUPS):
        for chunk in _members(group, CHUNKS):
            meta = chunk.get(META)
            if not isinstance(meta, dict):
                raise DatasetInvalid("is a Parquet file without the places of its columns")
            yield meta


def _members(told: dict[int, Any], number: int) -> list[dict[int, Any]]:
    """A list of structures in a structure."""
    members = told.get(number)
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise DatasetInvalid("is a damaged Parquet file")
    return members


def _unpacked(file: IO[bytes], meta: dict[int, Any], length: int, limits: Limits) -> int:
    """What the pages of one column chunk grow to, by their own headers."""
    starts = [meta[key] for key in (DATA_PAGE, DICTIONARY_PAGE) if isinstance(meta.get(key), int)]
    starts = [start for start in starts if start > 0]
    packed = meta.get(PACKED)
    if not starts or not isinstance(packed, int) or not 0 <= packed <= length - min(starts):
        raise DatasetInvalid("is a damaged Parquet file")
    at, end, total = min(starts), min(starts) + packed, 0
    while at < end:
        file.seek(at)
        head = file.read(min(PAGE_HEADER_BYTES, end - at))
        reader = _Compact(head)
        page = reader.read()
        unpacked, size = page.get(PAGE_UNPACKED), page.get(PAGE_PACKED)
        if not isinstance(unpacked, int) or not isinstance(size, int) or unpacked < 0 or size < 0:
            raise DatasetInvalid("is a damaged Parquet file")
        if unpacked > limits.page_bytes:
            raise DatasetInvalid(f"has a page that would decode to more than {limits.page_bytes:,} bytes")
        total += unpacked
        at += reader.at + size
    return total


def _read(data: bytes) -> dict[int, Any]:
    return _Compact(data).read()


class _Compact:
    """Thrift's compact protocol: structures as dicts by field number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def read(self) -> dict[int, Any]:
        """One structure. Raises DatasetInvalid."""
        try:
            return self._struct(0)
        except (IndexError, RecursionError) as failure:
            raise DatasetInvalid("is a damaged Parquet file") from failure

    def _struct(self, depth: int) -> dict[int, Any]:
        if depth > DEPTH:
            raise RecursionError
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            found[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == DOUBLE:
            return self._skip(8)
        if kind == BINARY:
            return self._skip(self._number())
        if kind in (LIST, SET):
            return self._list(depth)
        if kind == STRUCT:
            return self._struct(depth + 1)
        raise IndexError

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._number()
        if count > len(self._data) - self.at:
            raise IndexError
        return [self._value(head & 15, depth) for _ in range(count)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise IndexError

    def _signed(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, length: int) -> None:
        if length > len(self._data) - self.at:
            raise IndexError
        self.at += length
