"""Rows to predict (lists, arrays, tables, pictures, texts …) as the workbench is asked about them, in parts.

What is missing in a table (NaN, NaT, None) is null: models of tables know what to make of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk.frames import is_frame, polars_frame

if TYPE_CHECKING:
    import numpy as np

MOST_ROWS, MOST_TEXTS = 5_000, 250
"""What one request asks about; the workbench takes twice as many rows, and 256 texts."""
LONGEST_JSON = 4 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model reads. `inputs` are its raw columns; None: numbers of one shape, pictures or texts."""

    inputs: Sequence[str] | None = None
    shape: tuple[int, ...] = ()
    takes_bytes: bool = False
    """Whether pixels from 0 to 255 are read as they are; else a picture of bytes is sent from 0 to 1."""
    takes_texts: bool = False


def rows_to_ask(rows: Any, reading: Reading) -> list[Any]:
    """Rows as JSON has them, in order. One row alone is a list of one. Raises InvalidBatch."""
    if isinstance(rows, str | Mapping) or _is_picture(rows):
        rows = [rows]
    elif _is_series(rows):
        rows = _of_series(rows, reading)
    elif is_frame(rows):
        rows = _of_frame(rows, reading)
    elif hasattr(rows, "__array__") or hasattr(rows, "detach"):
        rows = _of_array(rows, reading)
    elif not isinstance(rows, Sequence):
        raise InvalidBatch("give rows as a list, an array or a DataFrame, or one row")
    elif _is_one_row(rows, reading):
        rows = [rows]
    found = [_of_row(row, reading) for row in rows]
    if not found:
        raise InvalidBatch("there are no rows to predict")
    return found


def parts_of(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """The same rows, in parts that one request can ask about."""
    most = MOST_TEXTS if isinstance(rows[0], str) else MOST_ROWS
    part: list[Any] = []
    length = 0
    for row in rows:
        size = len(json.dumps(row))
        if part and (len(part) >= most or length + size > LONGEST_JSON):
            yield part
            part, length = [], 0
        part.append(row)
        length += size
    if part:
        yield part


def _is_one_row(rows: Sequence[Any], reading: Reading) -> bool:
    """A list of plain values is one row, unless each of them is a text to read."""
    if not rows or any(isinstance(value, Mapping) or _is_nested(value) for value in rows):
        return False
    return not (reading.takes_texts and all(isinstance(value, str) for value in rows))


def _is_nested(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    is_array = getattr(value, "ndim", 0) > 0 or hasattr(value, "detach")
    return isinstance(value, Sequence) or is_array or _is_picture(value)


def _of_frame(frame: Any, reading: Reading) -> list[Any]:
    """A table's rows by column; columns that the model does not read, as its target, stay here."""
    table = polars_frame(frame)
    if reading.takes_texts:
        if table.width != 1:
            raise InvalidBatch(f"this model reads texts: give the column of them, not all {table.width}")
        return table.to_series().to_list()
    if reading.inputs is None:  # numbers in order: such a model knows no columns
        return [list(row) for row in table.iter_rows()]
    _require_columns(reading.inputs, table.columns, "table")
    return table.select(reading.inputs).to_dicts()


def _require_columns(wanted: Sequence[str], present: Any, what: str) -> None:
    """Raises InvalidBatch, naming the first column that the model reads and the rows have not."""
    missing = [name for name in wanted if name not in present]
    if missing:
        raise InvalidBatch(f"this model reads column {missing[0]}, and the {what} has none of that name")


def _is_series(rows: Any) -> bool:
    """One column of pandas, or one row."""
    return hasattr(rows, "iloc") and not hasattr(rows, "columns")


def _of_series(series: Any, reading: Reading) -> list[Any]:
    """A row by the names in its index, else its values in order; texts are a row each."""
    if reading.takes_texts:
        return list(series)
    if reading.inputs is None or not all(isinstance(name, str) for name in series.index):
        return [list(series)]
    _require_columns(reading.inputs, series.index, "row")
    return [{name: series[name] for name in reading.inputs}]


def _is_picture(row: Any) -> bool:
    """Whether it is an image of Pillow."""
    return hasattr(row, "getbands") and hasattr(row, "convert")


def _of_picture(picture: Any, reading: Reading) -> Any:
    """Its bytes, channels first, in as many channels as the model sees; upright and on white, as learned."""
    import numpy as np

    from tg_workbench.pictures import as_seen

    is_grey = reading.shape[:1] == (1,)
    seen, _ = as_seen(picture)
    pixels = np.asarray(seen.convert("L" if is_grey else "RGB"))
    return _numbers(pixels[None] if is_grey else pixels.transpose(2, 0, 1), reading).tolist()


def _of_array(rows: Any, reading: Reading) -> Any:
    array = _numbers(rows, reading)
    if array.ndim == 0:
        raise InvalidBatch("an array of rows has at least one dimension")
    is_texts = reading.takes_texts and array.dtype.kind in "OU"
    if (array.ndim == 1 and not is_texts) or (array.ndim > 1 and array.shape in _one(reading.shape)):
        array = array[None]
    return array.tolist()


def _one(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes of one row; one channel of a picture need not be said."""
    return (shape, shape[1:]) if len(shape) == 3 and shape[0] == 1 else (shape,)


def _numbers(rows: Any, reading: Reading) -> np.ndarray[Any, Any]:
    """As NumPy has them; pictures of bytes from 0 to 1, where the model knows no bytes."""
    import numpy as np

    array = np.asarray(rows.detach().cpu() if hasattr(rows, "detach") else rows)
    is_bytes = array.dtype == np.uint8 and reading.inputs is None and not reading.takes_bytes
    return array.astype(np.float32) / 255.0 if is_bytes else array


def _of_row(row: Any, reading: Reading) -> Any:
    if isinstance(row, Mapping):
        return {str(name): _plain(value) for name, value in row.items()}
    if isinstance(row, str):
        return row
    if _is_picture(row):
        return _of_picture(row, reading)
    if hasattr(row, "__array__") or hasattr(row, "detach"):
        return _numbers(row, reading).tolist()
    if isinstance(row, Sequence):
        return [_plain(value) for value in row]
    raise InvalidBatch("a row is a list of values, a dict of them by column, or a text")


def _plain(value: Any) -> Any:
    """A value as JSON has it. Raises InvalidBatch for infinity."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float):
        if math.isinf(value):
            raise InvalidBatch("a row holds infinity: give finite numbers, or None for what is missing")
        return None if math.isnan(value) else value
    if isinstance(value, datetime | date):
        return None if value != value else value.isoformat()  # NaT is not itself
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | int):
        return value
    raise InvalidBatch(f"a row holds a {type(value).__name__}: give numbers, texts, dates or None")
