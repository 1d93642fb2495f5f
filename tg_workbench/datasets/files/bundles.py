"""Bundles: CSV files of one header in a ZIP archive, read as one table in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from tg_workbench.datasets.files.archives import Archive, Entry
from tg_workbench.datasets.files.delimited import CsvTable
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.errors import DatasetInvalid

ENDINGS = {".csv", ".tsv"}
MOST = 1_000


class CsvBundle:
    """The CSV files of an archive, unpacked under names of ours. Raises DatasetInvalid."""

    def __init__(self, archive: Archive, work: Path, limits: Limits) -> None:
        self._limits = limits
        entries = sorted(archive.entries, key=lambda entry: entry.name)
        others = [entry for entry in entries if not _is_csv(entry)]
        if others:
            raise DatasetInvalid(
                "is no CSV file, as others are: an archive holds CSVs or images",
                *(f"file {e.name}" for e in others),
            )
        if len(entries) > MOST:
            raise DatasetInvalid(f"holds more than {MOST:,} CSV files")
        self._parts = [
            (entry, _named(entry, archive, work / f"part-{n}", limits)) for n, entry in enumerate(entries)
        ]
        first = self._parts[0][1]
        for entry, part in self._parts:
            if part.header != first.header:
                raise DatasetInvalid("has another header than the first CSV", f"file {entry.name}")
        self.names = first.names
        self.warnings = first.warnings
        self._first_rows: list[int] = []

    @staticmethod
    def fits(archive: Archive) -> bool:
        """Whether an archive holds a CSV file."""
        return any(_is_csv(entry) for entry in archive.entries)

    def place(self, row: int) -> str:
        """The file, and the row in it."""
        number = max(n for n, first in enumerate(self._first_rows) if first <= row)
        entry, part = self._parts[number]
        return f"file {entry.name}, {part.place(row - self._first_rows[number] + 1)}"

    def frames(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows of one file after those of another."""
        row = 1
        self._first_rows = []
        for entry, part in self._parts:
            self._first_rows.append(row)
            try:
                for _, frame in part.frames():
                    yield row, frame
                    row += frame.height
            except DatasetInvalid as error:
                raise _inside(entry, error) from None
            if row > self._limits.rows + 1:
                raise DatasetInvalid(f"has more than {self._limits.rows:,} rows")


def _named(entry: Entry, archive: Archive, folder: Path, limits: Limits) -> CsvTable:
    folder.mkdir()
    path = folder / "unpacked.csv"
    with path.open("xb") as file:
        for piece in archive.pieces(entry):
            file.write(piece)
    try:
        if not entry.size:
            raise DatasetInvalid("is empty")
        return CsvTable(path, folder, limits)
    except DatasetInvalid as error:
        raise _inside(entry, error) from None


def _inside(entry: Entry, error: DatasetInvalid) -> DatasetInvalid:
    """The same problems, with the name of the file they are in."""
    name = f"file {entry.name}"
    places = [(problem["where"], problem["problem"]) for problem in error.problems]
    return DatasetInvalid.of([(name if at == "file" else f"{name}, {at}", what) for at, what in places])


def _is_csv(entry: Entry) -> bool:
    return entry.path.suffix.lower() in ENDINGS
