"""Tensors: a safetensors file written piece by piece, laid out as the library itself would lay it out.

So that the digests are those that `Content` gives the same rows handed over as one array.
Source: the safetensors format (8 bytes of length, JSON header padded with blanks, tensors by falling
alignment and then by name).
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tg_workbench.datasets.contents import UNIT_IDS

DTYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype("u1"), "F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
PIECE_BYTES = 1 << 20
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Digests:
    """What tells the same rows and the same people again; see `Content`."""

    digest: str
    rows_digest: str
    plain_digest: str
    units: int | None = None
    units_digest: str | None = None


class TensorFile:
    """A file of tensors of known shapes, each filled from its first row on."""

    def __init__(self, path: Path, shapes: Shapes) -> None:
        self.path = path
        self.shapes = shapes
        header = header_of(shapes)
        self._start = len(header)
        self._at = {name: self._start + start for name, (start, _) in places(shapes).items()}
        self._file = path.open("xb")
        self._file.write(header)
        self._file.truncate(self._start + sum(_bytes(shape) for shape in shapes.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Write the next rows of one tensor."""
        piece = np.ascontiguousarray(rows, dtype=DTYPES[self.shapes[name][0]])
        self._file.seek(self._at[name])
        self._at[name] += self._file.write(piece.data.cast("B"))

    @property
    def tensors(self) -> dict[str, dict[str, Any]]:
        """Shape and dtype by name."""
        return {name: {"shape": list(shape), "dtype": dtype} for name, (dtype, shape) in self.shapes.items()}


def digests_of(path: Path, shapes: Shapes) -> Digests:
    """The digests of a finished file. `unit_ids` are numbers; whose rows they are is all that counts."""
    where = places(shapes)
    start = len(header_of(shapes))
    plain_shapes = {name: shape for name, shape in shapes.items() if name != UNIT_IDS}
    whole, rows, plain = hashlib.sha256(header_of(shapes)), hashlib.sha256(), hashlib.sha256()
    plain.update(header_of(plain_shapes))
    units: tuple[int | None, str | None] = (None, None)
    with path.open("rb") as file:
        for name, (begin, end) in where.items():  # in the order of the file
            for piece in _pieces(file, start + begin, end - begin):
                whole.update(piece)
                if name != UNIT_IDS:
                    plain.update(piece)
        for name in sorted(plain_shapes):
            dtype, shape = shapes[name]
            rows.update(repr((name, dtype, list(shape))).encode())
            for piece in _pieces(file, start + where[name][0], _bytes(shapes[name])):
                rows.update(piece)
        if UNIT_IDS in shapes:
            file.seek(start + where[UNIT_IDS][0])
            units = partition(np.frombuffer(file.read(_bytes(shapes[UNIT_IDS])), dtype="<i8"))
    return Digests(whole.hexdigest(), rows.hexdigest(), plain.hexdigest(), *units)


def partition(ids: npt.NDArray[np.int64]) -> tuple[int, str]:
    """How many units there are, and which rows belong together: units numbered as they first appear."""
    _, first, number = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype="<i8")
    rank[np.argsort(first)] = np.arange(len(first))
    return len(first), hashlib.sha256(rank[number].tobytes()).hexdigest()


def places(shapes: Shapes) -> dict[str, tuple[int, int]]:
    """Where each tensor lies after the header, in the order of the file."""
    at, found = 0, {}
    for name in sorted(shapes, key=lambda name: (-DTYPES[shapes[name][0]].itemsize, name)):
        found[name] = (at, at + _bytes(shapes[name]))
        at += _bytes(shapes[name])
    return found


def header_of(shapes: Shapes) -> bytes:
    """The file up to its first tensor."""
    told = {
        name: {"dtype": shapes[name][0], "shape": list(shapes[name][1]), "data_offsets": list(place)}
        for name, place in places(shapes).items()
    }
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _bytes(shape: tuple[str, tuple[int, ...]]) -> int:
    return int(DTYPES[shape[0]].itemsize) * math.prod(shape[1])


def _pieces(file: Any, start: int, length: int) -> Any:
    file.seek(start)
    while length > 0:
        piece = file.read(min(PIECE_BYTES, length))
        if not piece:
            raise EOFError("the file is shorter than its header says")
        length -= len(piece)
        yield piece
