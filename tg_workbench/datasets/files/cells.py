"""Cells: the values of one column of a frame as numbers, or as texts, with what is missing left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.raw_columns import MISSING_WORDS, text_of

Floats = npt.NDArray[np.float64]
WORDS = sorted(MISSING_WORDS)


def numbers_of(frame: pl.DataFrame) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Every cell as a number, NaN where it is none; and for each column how many cells hold other words."""
    cast = frame.select(
        pl.lit(None, pl.Float64).alias(name)
        if kind == pl.Boolean
        else pl.col(name).cast(pl.Float64, strict=False)
        for name, kind in frame.schema.items()
    )
    if cast.height != frame.height:  # nothing but literals
        cast = cast.select(pl.all().first().repeat_by(frame.height).explode())
    empty = np.array(frame.null_count().row(0), dtype=np.int64)
    other = np.array(cast.null_count().row(0), dtype=np.int64) - empty
    matrix = cast.fill_null(float("nan")).to_numpy()
    if other.any():
        matrix = np.array(matrix)
        for place in np.flatnonzero(other):
            words = texts_of(frame.to_series(int(place)))
            matrix[:, place] = words.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
            other[place] = int(np.isnan(matrix[:, place]).sum()) - words.null_count()
    return matrix, other


def texts_of(column: pl.Series) -> pl.Series:
    """Every cell as a text without blanks around it; null where it says nothing."""
    if column.dtype == pl.String:
        words = column.str.strip_chars()
        return words.set(words.is_in(WORDS), None)
    if column.dtype == pl.Boolean:
        return column.cast(pl.String)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return mapped(column, text_of, pl.String)


def mapped(column: pl.Series, function: Callable[..., object], kind: type[pl.DataType]) -> pl.Series:
    """A function of each cell, called once for each different one; null stays null."""
    values = column.drop_nulls().unique()
    images = pl.Series([function(value) for value in values], dtype=kind)
    return column.replace_strict(values, images, default=None, return_dtype=kind)


def names_of(column: pl.Series) -> pl.Series:
    """Every cell as the name of a class or category, in the one spelling of `text_of`."""
    return mapped(texts_of(column), text_of, pl.String)


def places_of(column: pl.Series, place_of: Callable[[str], float | None]) -> Floats:
    """What a raw column makes of each cell; NaN where it says nothing, or nothing that the column knows."""
    places = mapped(texts_of(column), place_of, pl.Float64)
    return places.fill_null(float("nan")).to_numpy()
