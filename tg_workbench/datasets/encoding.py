"""Encoding: how raw rows become features, and class numbers become names again; the model keeps a copy.

Of a protected set nothing in it is a function of the rows' values: numbers are scaled by the ranges that were
declared, else by asinh; categories are declared, else hashed into a fixed number of buckets; what is missing
is 0. The names and types of the columns and the names of the classes are treated as public.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tg_workbench.datasets.raw_columns import (
    LARGEST,
    Bucketed,
    Dated,
    Named,
    Number,
    RawColumn,
    Switch,
    column_from_json,
)
from tg_workbench.errors import InvalidBatch

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
MOST_NAMED = 12
"""Of the columns that a model reads, an error names so many."""
VERSION = 1
TEXT, IMAGE = "text", "image"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one dataset's raw columns are read. Of images and texts it keeps the shape and the names only."""

    kind: str
    """table, images or texts."""
    task: str
    """classification, regression or language_modeling."""
    columns: tuple[RawColumn, ...] = ()
    class_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] = ()
    """Channels, height, width."""
    target: str | None = None
    target_number: Number | None = None
    """How the number that a regression predicts is scaled while it is learned; None: it is not."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The raw columns that a row to predict must have, in order."""
        if self.kind == "table":
            return tuple(column.name for column in self.columns)
        return (IMAGE,) if self.kind == "images" else (TEXT,)

    @property
    def width(self) -> int:
        """How many numbers a row becomes; of texts none."""
        return math.prod(self.input_shape) if self.input_shape else 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example; () for texts."""
        if self.kind == "table":
            return (sum(column.width for column in self.columns),)
        return self.image_shape

    # -------------------------------------------------------------------------------- rows to predict
    def features(self, rows: Sequence[Any]) -> npt.NDArray[Any]:
        """Raw rows as the model reads them: lists in the order of `inputs`, or objects by name.

        A table gives float32 [n, width]; images give uint8 [n, channels, height, width]. Rows are counted
        from 1. Raises InvalidBatch with the row's number and the column, never with what stands there.
        """
        if not isinstance(rows, list | tuple) or not rows:
            raise InvalidBatch("send a list of rows, at least one")
        if self.kind == "table":
            return self._table(rows)
        if self.kind == "images":
            pictures = (self._only(row, IMAGE, n) for n, row in enumerate(rows, 1))
            return np.stack([self._picture(picture, n) for n, picture in enumerate(pictures, 1)])
        raise InvalidBatch("this dataset holds texts, and they have no features: they are read as tokens")

    def texts(self, rows: Sequence[Any]) -> list[str]:
        """The texts in raw rows: texts alone, or under the name `text`. Raises InvalidBatch."""
        found = [self._only(row, TEXT, n) for n, row in enumerate(rows, 1)]
        for number, text in enumerate(found, 1):
            if not isinstance(text, str) or not text.strip():
                raise InvalidBatch(f"row {number}, column text: must be a text that is not empty")
        return found

    def _table(self, rows: Sequence[Any]) -> Features:
        ordered = [self._ordered(row, number) for number, row in enumerate(rows, 1)]
        numbers, others = [], {}
        for place, column in enumerate(self.columns):
            values = [row[place] for row in ordered]
            if isinstance(column, Number):
                numbers.append(column.read(values))
            else:
                others[column.name] = column.read(values)
        matrix = np.stack(numbers, axis=1) if numbers else np.empty((len(rows), 0))
        return self.assembled(matrix, others)

    def _ordered(self, row: Any, number: int) -> Sequence[Any]:
        names = self.inputs
        if isinstance(row, Mapping):
            for name in names:
                if name not in row:
                    raise InvalidBatch(f"row {number}, column {name}: is missing")
            if len(row) > len(names):
                raise InvalidBatch(
                    f"row {number}: has a column that this model does not know: it reads {_some(names)}"
                )
            return [row[name] for name in names]
        if not isinstance(row, list | tuple):
            raise InvalidBatch(f"row {number}: must be a list of values, or an object of them by name")
        if len(row) != len(names):
            raise InvalidBatch(f"row {number}: has {len(row)} values; this model reads {len(names)} columns")
        return row

    def _only(self, row: Any, name: str, number: int) -> Any:
        if isinstance(row, Mapping):
            if set(row) != {name}:
                raise InvalidBatch(f"row {number}: must have one column, named {name}")
            return row[name]
        is_wrapped = isinstance(row, list | tuple) and len(row) == 1 and (name == TEXT or _is_image(row[0]))
        return row[0] if is_wrapped else row

    def _picture(self, picture: Any, number: int) -> npt.NDArray[np.uint8]:
        where = f"row {number}, column {IMAGE}"
        try:
            pixels = np.asarray(picture)
        except (ValueError, TypeError, OverflowError):
            pixels = np.empty(0, dtype=object)
        if pixels.dtype.kind not in "iuf":
            raise InvalidBatch(f"{where}: must be numbers from 0 to 255 in rows of one length")
        if pixels.shape == self.image_shape[1:] and self.image_shape[0] == 1:
            pixels = pixels[None]
        if pixels.shape != self.image_shape:
            asked = "×".join(map(str, self.image_shape))
            raise InvalidBatch(f"{where}: must have the shape {asked} (channels, height, width)")
        if not bool(((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels))).all()):
            raise InvalidBatch(f"{where}: must hold whole numbers from 0 to 255")
        return pixels.astype(np.uint8)

    # -------------------------------------------------------------------------------- columns at once
    def assembled(self, numbers: Floats, others: Mapping[str, Floats]) -> Features:
        """Features of columns that were read already: those of numbers side by side, the others by name.

        NaN is what is missing. Of categories come the places of their values, of dates days since 1970.
        """
        scaled = self._scaled(numbers)
        if not others:
            return scaled
        out = np.zeros((len(numbers), self.width), dtype=np.float32)
        place, number = 0, 0
        for column in self.columns:
            end = place + column.width
            if isinstance(column, Number):
                out[:, place] = scaled[:, number]
                number += 1
            else:
                out[:, place:end] = column.encoded(others[column.name])
            place = end
        return out

    def _scaled(self, numbers: Floats) -> Features:
        """Every column of numbers on its own scale; what is missing is 0."""
        columns = [column for column in self.columns if isinstance(column, Number)]
        low = np.array([-np.inf if column.low is None else column.low for column in columns])
        high = np.array([np.inf if column.high is None else column.high for column in columns])
        center = np.array([column.center for column in columns])
        scale = np.array([column.scale for column in columns])
        scaled: Floats = (np.clip(numbers, low, high) - center) / scale
        bent = np.array([column.scaling == "asinh" for column in columns], dtype=bool)
        if bent.any():
            scaled[:, bent] = np.arcsinh(scaled[:, bent])
        held = np.clip(np.nan_to_num(scaled, copy=False, nan=0.0), -LARGEST, LARGEST)
        return held.astype(np.float32)

    # -------------------------------------------------------------------------------- words and JSON
    def describe(self) -> list[dict[str, str]]:
        """One line for each input, for a model card: what it is and how it is read."""
        if self.kind == "table":
            return [
                {"name": column.name, "type": column.type, "reading": column.told} for column in self.columns
            ]
        if self.kind == "images":
            shape = "×".join(map(str, self.image_shape))
            return [{"name": IMAGE, "type": "image", "reading": f"pixels {shape}, value / 255"}]
        return [{"name": TEXT, "type": "text", "reading": "as tokens of the model's tokenizer"}]

    def as_json(self) -> dict[str, Any]:
        """The same, fit for JSON."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "task": self.task,
            "columns": [{"type": column.type, **asdict(column)} for column in self.columns],
            "class_names": None if self.class_names is None else list(self.class_names),
            "image_shape": list(self.image_shape),
            "target": self.target,
            "target_number": None if self.target_number is None else asdict(self.target_number),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Encoding:
        """What `as_json` told. Raises ValueError for another version."""
        if told.get("version") != VERSION:
            raise ValueError("an encoding of another version")
        names, number = told["class_names"], told.get("target_number")
        return cls(
            kind=told["kind"],
            task=told["task"],
            columns=tuple(column_from_json(column) for column in told["columns"]),
            class_names=None if names is None else tuple(names),
            image_shape=tuple(told["image_shape"]),
            target=told["target"],
            target_number=Number(**number) if number else None,
        )


def _some(names: Sequence[str]) -> str:
    """The first of them, for a sentence."""
    return ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")


def _is_image(value: Any) -> bool:
    """Whether a value has more than one dimension: an image that came in a list of one."""
    return isinstance(value, list | tuple | np.ndarray) and np.ndim(value[0] if len(value) else 0) >= 2


__all__ = ["Bucketed", "Dated", "Encoding", "Named", "Number", "RawColumn", "Switch"]
