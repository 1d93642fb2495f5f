"""Tables as notebooks hold them (pandas, Polars, Arrow), written to a file that the workbench reads.

Neither pandas nor PyArrow is needed: Polars writes the file, and is imported when there is one to write.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tg_workbench.errors import InvalidBatch

if TYPE_CHECKING:
    import polars as pl

PLAIN_KINDS = "iub"
"""NumPy's whole numbers and truth values, of which none can be missing."""
STRANGE = (
    "column {} holds values of several types, or of one that no table file has: "
    "make them all numbers, texts, dates or truth values"
)


def is_frame(value: Any) -> bool:
    """Whether it is a table with named columns: of pandas, Polars, or anything else that speaks Arrow."""
    return hasattr(value, "columns") or hasattr(value, "__arrow_c_stream__")


def write_parquet(frame: Any, path: Path) -> None:
    """Write a table's rows. Raises InvalidBatch for what a file of columns cannot hold."""
    polars_frame(frame).write_parquet(path)


def polars_frame(frame: Any) -> pl.DataFrame:
    """The same table in Polars. The index of a pandas frame is no column. Raises InvalidBatch."""
    import polars as pl

    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):
        return _from_pandas(frame)
    if hasattr(frame, "__arrow_c_stream__") and not hasattr(frame, "iloc"):
        return pl.DataFrame(frame)
    raise InvalidBatch(f"a {type(frame).__name__} is no table: give a file, or a pandas or Polars DataFrame")


def _from_pandas(frame: Any) -> pl.DataFrame:
    import polars as pl

    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidBatch(f"column {twice[0]} is there twice: give each column a name of its own")
    return pl.DataFrame([_column(name, frame.iloc[:, place]) for place, name in enumerate(names)])


def _column(name: str, column: Any) -> pl.Series:
    """One column. What pandas calls missing (NaN, NaT, None, NA) is missing. Raises InvalidBatch."""
    import numpy as np
    import polars as pl

    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
    try:
        if kind in PLAIN_KINDS:
            return pl.Series(name, column.to_numpy())
        if kind == "f":
            return pl.Series(name, column.to_numpy(), nan_to_null=True)
        plain = column.astype(object)
        series = pl.Series(name, plain.where(column.notna(), None).tolist())
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as failure:
        raise InvalidBatch(STRANGE.format(name)) from failure
    if series.dtype == pl.Object:
        raise InvalidBatch(STRANGE.format(name))
    return series
