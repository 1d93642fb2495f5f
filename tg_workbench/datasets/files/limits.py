"""Limits: how much of everything a file may hold, so that no file takes the worker's memory or its day."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold before anything large is read. What passes one is refused, and the bound is told."""

    file_bytes: int = 2 * GIB
    rows: int = 20_000_000
    columns: int = 4_096
    name_length: int = 128
    """Characters of a column's or a class's name."""
    line_bytes: int = 4 * MIB
    """One line of CSV or JSON Lines, or one object of a JSON list."""
    field_bytes: int = MIB
    """One value of a table, or one text."""
    json_bytes: int = 64 * MIB
    """A JSON object of columns: it is read as a whole. A list of objects is not."""
    classes: int = 1_000
    categories: int = 64
    """A column of more is hashed, not one-hot."""
    features: int = 32_768
    """Numbers that an encoded row may have."""
    decoded_bytes: int = 4 * GIB
    """What a file may grow to: unpacked, decoded or encoded."""
    entries: int = 75_000
    """Entries of a ZIP archive."""
    directory_bytes: int = 16 * MIB
    """The directory of a ZIP archive."""
    ratio: int = 50
    """How many times larger than the archive its content may be, above `ratio_from_bytes`."""
    ratio_from_bytes: int = 64 * MIB
    entry_bytes: int = 32 * MIB
    """One image file."""
    image_side: int = 1_024
    page_bytes: int = 256 * MIB
    """One page of a Parquet file, decompressed."""
    footer_bytes: int = 16 * MIB
    """The description at the end of a Parquet file."""
    chunk_bytes: int = 4 * MIB
    """How much text is looked at at once."""


LIMITS = Limits()
