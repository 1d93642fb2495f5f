"""Notation: numbers as other countries and people write them; read where that is certain, else warned of.

A decimal comma is certain in a column of a file that is not cut by commas, when what the file's beginning
holds of it are such numbers, or nearly all of it. So the same rows are the same table however a spreadsheet
was set. A point between thousands (1.234) is one where it groups every number of its column, and either a
number has two of them or another column has decimal commas. Else it is read as 1.234, and warned of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import polars as pl

from tg_workbench.datasets.raw_columns import is_missing

WITH_COMMA = r"^\s*[+-]?(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+)(?:,[0-9]+)?(?:[eE][+-]?[0-9]+)?\s*$"
_WITH_COMMA = re.compile(WITH_COMMA)
CODE = r"^\s*0[0-9]+\s*$"
"""A number with zeros before it, as postal codes and ids have them."""
_GROUPED = re.compile(r"\s*[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+\s*")
_BELOW_THOUSAND = re.compile(r"\s*[+-]?[0-9]{1,3}\s*")
MOSTLY, ENOUGH = 0.9, 10
"""A column of which so large a part is numbers, of at least so many, holds mistakes and no categories."""
WRITTEN_OTHERWISE = r"^[^\w\s]?\s?[+-]?[0-9][0-9.,'’/\s]*(?:[^\w\s]|[A-Z]{3})?$"
"""Digits with signs between them, perhaps with a currency's or a percentage's: 1.234,50 €, 1/2/2024."""


def comma_columns(rows: Sequence[Sequence[str]], width: int) -> tuple[int, ...]:
    """The places of columns whose numbers have a decimal comma, as far as these rows show."""
    found = []
    for place in range(width):
        values = [row[place] for row in rows if len(row) == width and not is_missing(row[place])]
        numbers = [value for value in values if _WITH_COMMA.match(value)]
        is_mostly = len(values) >= ENOUGH and len(numbers) >= MOSTLY * len(values)
        if any("," in value for value in numbers) and (is_mostly or len(numbers) == len(values)):
            found.append(place)
    return tuple(found)


def grouped_columns(rows: Sequence[Sequence[str]], width: int) -> dict[int, bool]:
    """The places of columns whose points may be between thousands, and whether a number has two of them.

    Every number of such a column is below a thousand, or has a point before each three digits.
    """
    found = {}
    for place in range(width):
        values = [row[place] for row in rows if len(row) == width and not is_missing(row[place])]
        grouped = [value for value in values if _GROUPED.fullmatch(value)]
        numbers = len(grouped) + sum(_BELOW_THOUSAND.fullmatch(value) is not None for value in values)
        is_mostly = len(values) >= ENOUGH and numbers >= MOSTLY * len(values)
        others = [value for value in values if not _GROUPED.fullmatch(value) and "." in value]
        is_all = numbers == len(values) or (is_mostly and not any(map(_is_number, others)))
        if grouped and is_all:
            found[place] = any(value.count(".") > 1 for value in grouped)
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def with_points(frame: pl.DataFrame, places: Collection[int]) -> pl.DataFrame:
    """The same texts with decimal points in some columns; what is no number there stays as it is."""
    texts = [pl.nth(place) for place in places]
    return frame.with_columns(
        pl.when(text.str.contains(WITH_COMMA))
        .then(text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True))
        .otherwise(text)
        for text in texts
    )
