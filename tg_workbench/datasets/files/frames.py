"""Frames: a table of any format as a run of small Polars frames, so that no table is ever held whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import polars as pl

from tg_workbench.datasets.files.limits import Limits
from tg_workbench.errors import DatasetInvalid

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
LARGEST_INTEGER = 2**63 - 1
MOST_TOLD = 5
"""Of columns that could be named in a warning."""


class Table(Protocol):
    """A table that can be read from its start any number of times."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was left out, in words."""
        ...

    def frames(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows in order, some at a time: the number of the first, from 1, and the frame.

        The columns of a frame are called by their places, "0", "1" …: their own names could be patterns.
        """
        ...

    def place(self, row: int) -> str:
        """Where a row stands, in words."""
        ...


def check_names(names: Sequence[str], limits: Limits) -> None:
    """Refuse names that nobody could use. Tells a column's number: without a header a name is a value."""
    if len(names) > limits.columns:
        raise DatasetInvalid(f"has more than {limits.columns:,} columns")
    problems: list[tuple[str, str]] = []
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        where = f"column {number}"
        if not name:
            problems.append((where, "has no name"))
        elif len(name) > limits.name_length:
            problems.append((where, f"has a name of more than {limits.name_length} characters"))
        elif UNPRINTABLE.search(name):
            problems.append((where, "has a name with characters that cannot be printed"))
        elif name in seen:
            problems.append((where, f"has the same name as column {seen[name]}"))
        seen.setdefault(name, number)
    if problems:
        raise DatasetInvalid.of(problems)


def few(names: Sequence[str]) -> str:
    """Names of columns for a sentence: the first, and a sign that there are more."""
    return ", ".join(names[:MOST_TOLD]) + (", …" if len(names) > MOST_TOLD else "")


def frame_of(columns: Iterable[Sequence[Any]]) -> pl.DataFrame:
    """Columns of values as JSON has them, called by their places."""
    return pl.DataFrame([series_of(str(place), list(values)) for place, values in enumerate(columns)])


def series_of(name: str, values: list[Any]) -> pl.Series:
    """Values as JSON has them, in the one type that holds them all; a mixture becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return pl.Series(name, values, dtype=pl.String)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int} and all(value is None or abs(value) <= LARGEST_INTEGER for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, [None if v is None else _float(v) for v in values], dtype=pl.Float64)
    return pl.Series(name, [None if v is None else _text(v) for v in values], dtype=pl.String)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
