"""Rows as people send them → the numbers a network reads, through the encoding that its dataset had.

What is wrong is named by row and column. A model without an encoding reads numbers: rows of them, or images
as nested lists or flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tg_workbench.errors import InvalidBatch, RowInvalid

MOST_ROWS = 10_000
Array = np.ndarray[Any, Any]
_NUMBERS = {int, float}


def rows_in(question: dict[str, Any]) -> tuple[str, list[Any]]:
    """The rows of a question and the member they came in: `input` is one row, `inputs` are several."""
    if ("input" in question) == ("inputs" in question):
        raise InvalidBatch("send either input, which is one row, or inputs, which is a list of rows")
    if "input" in question:
        return "input", [question["input"]]
    rows = question["inputs"]
    if not isinstance(rows, list) or not rows:
        raise RowInvalid("inputs", "it must be a list of at least one row")
    if len(rows) > MOST_ROWS:
        raise RowInvalid("inputs", f"there are {len(rows)} rows; send at most {MOST_ROWS} at a time")
    return "inputs", rows


def plain_features(rows: Sequence[Any], shape: tuple[int, ...], member: str) -> Array:
    """Rows of numbers as float32 [rows, *shape]. Raises RowInvalid."""
    width = math.prod(shape)
    features = np.empty((len(rows), width), np.float32)
    for number, row in enumerate(rows):
        where = member if member == "input" else f"{member}.{number}"
        flat = _flat(row, where, shape)
        if len(flat) != width:
            raise RowInvalid(where, f"it has {len(flat)} numbers; this model reads {_spelled(shape)}")
        with np.errstate(over="ignore"):
            features[number] = flat
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        number, column = bad[0].tolist()
        where = member if member == "input" else f"{member}.{number}"
        raise RowInvalid(f"{where}.{column}", "the number is too large for this model")
    return features.reshape((len(rows), *shape))


def _flat(row: Any, where: str, shape: tuple[int, ...]) -> list[Any]:
    """The numbers of one row, nested or not, in order."""
    if not isinstance(row, list):
        raise RowInvalid(where, f"it must be a list of {_spelled(shape)}")
    kinds = set(map(type, row))
    if kinds <= _NUMBERS:
        return row
    if kinds == {list} and len(shape) > 1:
        if len(row) != shape[0]:
            raise RowInvalid(where, f"it has {len(row)} parts; this model reads {_spelled(shape)}")
        found: list[Any] = []
        for number, part in enumerate(row):
            within = _flat(part, f"{where}.{number}", shape[1:])
            if len(within) != math.prod(shape[1:]):
                raise RowInvalid(f"{where}.{number}", f"this model reads {_spelled(shape)}")
            found += within
        return found
    column = next(number for number, value in enumerate(row) if type(value) not in _NUMBERS)
    raise RowInvalid(f"{where}.{column}", "it must be a number")


def _spelled(shape: tuple[int, ...]) -> str:
    return f"{' × '.join(map(str, shape))} numbers"
