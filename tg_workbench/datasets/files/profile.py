"""Profile: what the columns of a table hold, found in one pass that keeps no rows.

Nothing here is covered by ε: it is for the owner of a set. Of a protected one nothing goes into the encoding
but the columns' types and the classes' names.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.files.cells import mapped, names_of, numbers_of, texts_of
from tg_workbench.datasets.files.cells_digest import CellsDigest
from tg_workbench.datasets.files.frames import Table
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.datasets.files.notation import CODE, ENOUGH, MOSTLY, WRITTEN_OTHERWISE
from tg_workbench.datasets.files.values import Column, FileRequest
from tg_workbench.datasets.raw_columns import LARGEST, MISSING_WORDS, days_of, is_missing, switch_of, text_of
from tg_workbench.errors import DatasetInvalid, InvalidField, InvalidRequest

MOST_STRANGE = 5
LONG_TEXT = 32
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 80
TRACKED_VALUES, TRACKED_AT_LEAST = 500_000, 100
TOLD_VALUES, TOLD_CHARACTERS = 64, 1 << 19
"""How many values of a column are told, and how long those of all columns may be together."""


@dataclass(slots=True)
class Found:
    """What was found in one column so far."""

    name: str
    keep: int
    """How many different values are counted, at most."""
    wanted: frozenset[str] | None = None
    """All the values there may be, when that was declared."""
    count: int = 0
    numbers: int = 0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    is_whole: bool = True
    may_be_switch: bool = True
    may_be_date: bool = True
    may_be_otherwise: bool = True
    """Whether all its words look like numbers or dates of another notation."""
    may_be_code: bool = False
    """Whether one of its first numbers has zeros before it."""
    characters: int = 0
    values: dict[str, int] | None = field(default_factory=dict)
    """How often each value is there; None: too many."""
    gaps: list[int] = field(default_factory=list)
    """The first rows where it says nothing."""
    words: list[int] = field(default_factory=list)
    """The first rows that hold no number."""
    strays: list[int] = field(default_factory=list)
    """The first rows whose value was not declared."""
    too_large: list[int] = field(default_factory=list)
    beyond: list[int] = field(default_factory=list)
    """The first rows outside the declared range."""

    @property
    def type(self) -> str:
        """number, boolean, date, category or text; empty when every row says nothing."""
        if self.count == 0:
            return "empty"
        if self.wanted is not None:
            return "category"
        if self.numbers == self.count:
            return "number"
        if self.numbers == 0 and self.may_be_switch:
            return "boolean"
        if self.numbers == 0 and self.may_be_date:
            return "date"
        is_long = self.characters > LONG_TEXT * self.count
        return "text" if is_long and self.values is None else "category"

    @property
    def is_mistaken(self) -> bool:
        """Whether it is a column of numbers but for some cells."""
        is_mostly = self.count >= ENOUGH and self.numbers >= MOSTLY * self.count
        return self.type == "category" and self.wanted is None and is_mostly

    @property
    def is_mixed(self) -> bool:
        """Whether it is read as words, and half of it or more are numbers."""
        is_words = self.type in ("category", "text") and self.wanted is None
        return is_words and self.numbers >= ENOUGH and 2 * self.numbers >= self.count

    @property
    def is_written_otherwise(self) -> bool:
        """Whether it is read as words, and all of them look like numbers or dates."""
        is_words = self.type in ("category", "text") and self.count - self.numbers >= ENOUGH
        return is_words and self.may_be_otherwise

    @property
    def deviation(self) -> float:
        """The standard deviation of its numbers."""
        return math.sqrt(max(0.0, self.squares) / self.numbers) if self.numbers else 0.0

    def as_column(self, rows: int) -> Column:
        """The same for whoever asks about the set."""
        kind, values = self.type, self.values
        is_number = kind == "number"
        is_told = values is not None and kind in ("category", "boolean") and len(values) <= TOLD_VALUES
        return Column(
            name=self.name,
            type=kind,
            missing=rows - self.count,
            unique=None if values is None else len(values),
            minimum=self.minimum if is_number else None,
            maximum=self.maximum if is_number else None,
            mean=self.mean if is_number else None,
            deviation=self.deviation if is_number else None,
            values=tuple(sorted(values)) if is_told and values is not None else None,
        )


class Profile:
    """The columns of a table as they were found. Raises DatasetInvalid and InvalidRequest."""

    def __init__(self, table: Table, request: FileRequest, target: str | None, limits: Limits) -> None:
        self._table = table
        self.rows = 0
        self.preview: list[dict[str, object]] = []
        self._cells = CellsDigest()
        keep = min(limits.categories * 4, max(TRACKED_AT_LEAST, TRACKED_VALUES // len(table.names)))
        self.columns = {name: Found(name, keep) for name in table.names}
        require_columns("categories", table.names, request.categories)
        require_columns("ranges", table.names, request.ranges)
        for name, values in request.categories.items():
            self.columns[name].wanted = frozenset(_names(values))
        if target is not None:
            self.columns[target].keep = limits.classes
            if request.classes is not None:
                self.columns[target].wanted = frozenset(_names(request.classes))
        low, high = self._bounds(request.ranges)
        for first, frame in table.frames():
            if request.is_public and not self.rows:
                self.preview = _preview(frame, table.names)
            self._add(frame, first, low, high)
            self.rows += frame.height

    @property
    def cells_digest(self) -> str:
        """What tells this table again, however it is written down."""
        return self._cells.hexdigest()

    def told(self, longest: int) -> tuple[Column, ...]:
        """The columns for whoever asks about the set; values that are long, or many in all, are left out."""
        told, left = [], TOLD_CHARACTERS
        for found in self.columns.values():
            column = found.as_column(self.rows)
            size = sum(map(len, column.values or ()))
            if size > left or any(len(value) > longest for value in column.values or ()):
                column = replace(column, values=None)
            else:
                left -= size
            told.append(column)
        return tuple(told)

    def place(self, row: int, name: str) -> str:
        """Where a cell is."""
        return f"{self._table.place(row)}, column {name}"

    def problems(self, name: str, *, as_number: bool) -> list[tuple[str, str]]:
        """What is wrong with the cells of a column that is read as numbers, or as names."""
        found = self.columns[name]
        wrong = [(row, "is not among the values that were declared") for row in found.strays]
        if as_number:
            wrong += [(row, "is not a number, as the other values of this column are") for row in found.words]
            wrong += [(row, "is infinite, or too large for a float32") for row in found.too_large]
            wrong += [(row, "lies outside the range that was declared") for row in found.beyond]
        return [(self.place(row, name), problem) for row, problem in wrong]

    def _bounds(self, ranges: Mapping[str, tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
        low = np.full(len(self.columns), -LARGEST)
        high = np.full(len(self.columns), LARGEST)
        places = {name: place for place, name in enumerate(self.columns)}
        for name, (lowest, highest) in ranges.items():
            if not -LARGEST <= lowest < highest <= LARGEST:
                raise InvalidRequest("a range must be two finite numbers, the smaller one first")
            low[places[name]], high[places[name]] = lowest, highest
        return low, high

    # -------------------------------------------------------------------------------------- one frame
    def _add(self, frame: pl.DataFrame, first: int, low: np.ndarray, high: np.ndarray) -> None:
        matrix, words = numbers_of(frame)
        is_number = ~np.isnan(matrix)
        self._cells.begin(matrix)
        with np.errstate(invalid="ignore"):
            outside: npt.NDArray[np.bool_] = np.asarray((matrix < low) | (matrix > high))
        counts = is_number.sum(axis=0)
        moments = _moments(matrix, is_number, counts)
        odd: npt.NDArray[np.bool_] = np.asarray(outside.any(axis=0))
        for place, found in enumerate(self.columns.values()):
            column = frame.to_series(place)
            if counts[place]:
                _merge(found, int(counts[place]), *(float(part[place]) for part in moments))
            found.count += int(counts[place] + words[place])
            if not self.rows and column.dtype == pl.String:
                found.may_be_code = bool(column.str.contains(CODE).any())
            if len(found.gaps) < DatasetInvalid.MOST and counts[place] + words[place] < frame.height:
                _note(found.gaps, texts_of(column).is_null().to_numpy(), first)
            if odd[place]:
                is_large = np.abs(matrix[:, place]) > LARGEST
                _note(found.too_large, is_large, first)
                _note(found.beyond, outside[:, place] & ~is_large, first)
            if words[place]:
                self._add_words(found, column, ~is_number[:, place], first)
            if found.wanted is not None:
                names = names_of(column)
                _note(
                    found.strays,
                    (~names.is_in(sorted(found.wanted))).fill_null(value=False).to_numpy(),
                    first,
                )
            if found.values is not None:
                _tally(found, column)

    def _add_words(self, found: Found, column: pl.Series, is_word: npt.NDArray[np.bool_], first: int) -> None:
        texts = texts_of(column)
        _note(found.words, is_word & texts.is_not_null().to_numpy(), first)
        self._cells.add_words(texts, is_word)
        words = texts.filter(pl.Series(is_word)).drop_nulls()
        found.characters += int(words.str.len_chars().sum())
        if found.may_be_switch:
            found.may_be_switch = switch_of(words[0]) is not None and _all(words, switch_of)
        if found.may_be_date:
            found.may_be_date = days_of(words[0]) is not None and _all(words, days_of)
        if found.may_be_otherwise:
            found.may_be_otherwise = bool(words.str.contains(WRITTEN_OTHERWISE).all())


def require_columns(word: str, names: Sequence[str], told: Collection[str]) -> None:
    """Raises InvalidField, naming what is said of columns that are not in the file."""
    strange = [repr(name) for name in told if name not in names]
    if strange:
        shown = ", ".join(strange[:MOST_STRANGE]) + (", …" if len(strange) > MOST_STRANGE else "")
        raise InvalidField(word, f"no column of the file is called {shown}{_hint(names, told)}")


def _hint(names: Sequence[str], told: Collection[str]) -> str:
    """What the reason may be. The names that are there are not told: without a header they are values."""
    if len(names) == 1:
        return ": it has one column only; its first line must be the names of all"
    wanted = {name.strip().casefold() for name in told if name not in names}
    is_near = any(name.strip().casefold() in wanted for name in names)
    return ": one is, but for capital letters or blanks" if is_near else ""


def _all(words: pl.Series, function: object) -> bool:
    return mapped(words, function, pl.Float64).null_count() == 0  # type: ignore[arg-type]


def _names(values: Sequence[str]) -> list[str]:
    names = [text_of(value) or "" for value in values]
    if not all(names) or len(set(names)) < len(names):
        raise InvalidRequest("classes and categories must be different texts, none of them empty")
    return names


def _moments(
    matrix: np.ndarray, is_number: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64]
) -> tuple[np.ndarray, ...]:
    """Mean, squares about it, smallest, largest and wholeness of every column's numbers."""
    safe = np.where(is_number & (np.abs(matrix) <= LARGEST), matrix, 0.0)
    mean = safe.sum(axis=0) / np.maximum(counts, 1)
    squares = (np.where(is_number, safe - mean, 0.0) ** 2).sum(axis=0)
    smallest = np.where(is_number, matrix, np.inf).min(axis=0)
    largest = np.where(is_number, matrix, -np.inf).max(axis=0)
    whole = (safe == np.floor(safe)).all(axis=0)
    return mean, squares, smallest, largest, whole


def _merge(
    found: Found, count: int, mean: float, squares: float, low: float, high: float, whole: float
) -> None:
    """Add the numbers of a frame. Source: Chan, Golub and LeVeque (1979), the parallel variance."""
    total = found.numbers + count
    step = mean - found.mean
    found.squares += squares + step * step * found.numbers * count / total
    found.mean += step * count / total
    found.numbers = total
    found.minimum, found.maximum = min(found.minimum, low), max(found.maximum, high)
    found.is_whole = found.is_whole and bool(whole)


def _tally(found: Found, column: pl.Series) -> None:
    values = found.values or {}
    counts = column.value_counts()
    is_few = counts.height <= found.keep + len(MISSING_WORDS) + 2
    for value, count in counts.rows() if is_few else ():
        if not is_missing(value):
            name = text_of(value) or ""
            values[name] = values.get(name, 0) + count
    found.values = values if is_few and len(values) <= found.keep else None


def _note(rows: list[int], where: npt.NDArray[np.bool_], first: int) -> None:
    room = DatasetInvalid.MOST - len(rows)
    if room > 0:
        rows.extend(int(place) + first for place in np.flatnonzero(where)[:room])


def _preview(frame: pl.DataFrame, names: Sequence[str]) -> list[dict[str, object]]:
    return [
        {
            name: value[:PREVIEW_CHARACTERS] if isinstance(value, str) else _plain(value)
            for name, value in zip(names, row, strict=True)
        }
        for row in frame.head(PREVIEW_ROWS).rows()
    ]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
