"""Texts: a column of texts, and maybe one of labels, as the JSON that language models are trained from."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.contents import UNIT_IDS
from tg_workbench.datasets.encoding import Encoding
from tg_workbench.datasets.files.frames import Table
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.datasets.files.profile import Profile
from tg_workbench.datasets.files.tables import target_name, targets_of
from tg_workbench.datasets.files.targets import USUAL as LABELS
from tg_workbench.datasets.files.targets import Target, target_of, task_of
from tg_workbench.datasets.files.tensors import partition
from tg_workbench.datasets.files.units import Units
from tg_workbench.datasets.files.values import FileRequest, Inspection, Prepared
from tg_workbench.errors import DatasetInvalid, InvalidRequest

USUAL = ("text", "texts", "content", "sentence", "document", "review", "body", "prompt", "message", "tweet")
TEXT_TASKS = ("text_classification", "language_modeling")
FEW_COLUMNS = 3
"""A text, a label and whom it is about: more columns make a table that has a text in it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The columns that are read of a table of texts."""

    text: str
    target: Target | None
    unit: str | None


def is_about_texts(table: Table, request: FileRequest) -> bool:
    """Whether the rows are texts rather than features."""
    task = task_of(request.dataset_type)
    if task in TEXT_TASKS or request.text_column is not None:
        return True
    has_text = any(name.lower() in USUAL for name in table.names)
    is_small = len(table.names) <= FEW_COLUMNS and (request.target or "").lower() not in USUAL
    return has_text and is_small and task != "regression"


def prepare_texts(
    table: Table, file_format: str, request: FileRequest, into: Path, limits: Limits
) -> Prepared:
    """Two passes over a table: one to know it, one to write it. Raises DatasetInvalid, InvalidRequest."""
    text = _text_column(table.names, request)
    label = _label_column(table.names, text, request)
    profile = Profile(table, request, label, limits)
    _check_texts(table, text)
    parts = Parts(
        text, None if label is None else target_of(profile, request, label, limits), request.unit_column
    )
    return _Writing(table, profile, parts, limits).prepared(file_format, request, into)


class _Writing:
    """One pass over the rows that writes them, and what is told of them after."""

    def __init__(self, table: Table, profile: Profile, parts: Parts, limits: Limits) -> None:
        self._table = table
        self._profile = profile
        self._parts = parts
        self._limits = limits
        self._place = {name: number for number, name in enumerate(table.names)}
        self._targets = array("q")
        self._ids = array("q")

    def prepared(self, file_format: str, request: FileRequest, into: Path) -> Prepared:
        rows = hashlib.sha256()
        whole = hashlib.sha256()
        has_more = self._parts.target is not None or self._parts.unit is not None
        with into.open("xb") as file:

            def write(piece: bytes, *, of_rows: bool = False) -> None:
                file.write(piece)
                whole.update(piece)
                if of_rows:
                    rows.update(piece)

            write(b'{"texts":' if has_more else b"")
            for piece in self._texts(file):
                write(piece, of_rows=True)
            for name, numbers in (("targets", self._targets), (UNIT_IDS, self._ids)):
                if numbers:
                    write(f',"{name}":{json.dumps(numbers.tolist(), separators=(",", ":"))}'.encode())
            write(b"}" if has_more else b"")
        ids: npt.NDArray[np.int64] = np.array(self._ids, dtype=np.int64)
        units = partition(ids) if self._parts.unit is not None else (None, None)
        return Prepared(
            inspection=self._inspection(file_format, request),
            encoding=self._encoding(),
            path=into,
            format="texts",
            size=self._profile.rows,
            tensors=None,
            digest=whole.hexdigest(),
            rows_digest=rows.hexdigest(),
            plain_digest=rows.hexdigest(),
            units=units[0],
            units_digest=units[1],
            cells_digest=self._profile.cells_digest,
        )

    def _texts(self, file: IO[bytes]) -> Iterator[bytes]:
        """The list of texts in pieces; targets and units are kept for after it."""
        units = Units(self._profile, self._parts.unit) if self._parts.unit else None
        before = b"["
        for _, frame in self._table.frames():
            texts = frame.to_series(self._place[self._parts.text]).cast(pl.String)
            yield before + ",".join(json.dumps(text, ensure_ascii=False) for text in texts).encode()
            before = b","
            if self._parts.target is not None:
                column = frame.to_series(self._place[self._parts.target.name])
                self._targets.extend(targets_of(self._parts.target, column).tolist())
            if units is not None and self._parts.unit is not None:
                self._ids.extend(units.read(frame.to_series(self._place[self._parts.unit])).tolist())
            if file.tell() > self._limits.decoded_bytes:
                raise DatasetInvalid(f"would become more than {self._limits.decoded_bytes:,} bytes of texts")
        yield b"]"

    def _encoding(self) -> Encoding:
        target = self._parts.target
        if target is None:
            return Encoding("texts", "language_modeling")
        return Encoding("texts", "classification", class_names=target.class_names, target=target.name)

    def _inspection(self, file_format: str, request: FileRequest) -> Inspection:
        profile, parts = self._profile, self._parts
        read = {parts.text, parts.unit, parts.target.name if parts.target else None}
        left = [
            f"column {name} is left out: texts are learned alone" for name in self._place if name not in read
        ]
        return Inspection(
            file_format=file_format,
            kind="texts",
            rows=profile.rows,
            task="language_modeling" if parts.target is None else "text_classification",
            columns=profile.told(self._limits.name_length),
            target=parts.target.name if parts.target else None,
            unit_column=parts.unit,
            class_counts=parts.target.class_counts if parts.target else None,
            preview=tuple(profile.preview) if request.is_public else None,
            warnings=(*self._table.warnings, *left),
        )


def _text_column(names: Sequence[str], request: FileRequest) -> str:
    if request.text_column is not None:
        if request.text_column not in names:
            raise InvalidRequest("text_column must be a column of the file")
        return request.text_column
    left = [name for name in names if name not in (request.target, request.unit_column)]
    usual = next((name for word in USUAL for name in left if name.lower() == word), None)
    if usual is None and len(left) != 1:
        raise DatasetInvalid("does not say which column holds the texts: name it as text_column")
    return usual or left[0]


def _label_column(names: Sequence[str], text: str, request: FileRequest) -> str | None:
    task = task_of(request.dataset_type)
    if request.unit_column == text:
        raise InvalidRequest("unit_column must be another column than text_column")
    if task == "language_modeling":
        if request.target is not None:
            raise InvalidRequest(
                "language modeling has no target: leave it out, or choose text_classification"
            )
        return target_name(tuple(names), request, text) and None
    if task == "regression":
        raise InvalidRequest("a value cannot be learned from texts: choose text_classification")
    others = [name for name in names if name not in (text, request.unit_column)]
    label = target_name(tuple(names), request, text, request.unit_column)
    if label is None and task is not None:
        raise DatasetInvalid("has texts and no column of labels: choose language_modeling, or add one")
    is_certain = request.target is not None or task is not None or len(others) == 1
    return label if is_certain or (label or "").lower() in LABELS else None


def _check_texts(table: Table, text: str) -> None:
    """Every text must say something: an empty one has no token to learn."""
    place, empty = list(table.names).index(text), []
    for first, frame in table.frames():
        words = frame.to_series(place).cast(pl.String)
        is_empty = (words.str.strip_chars().str.len_bytes().fill_null(0) == 0).to_numpy()
        empty += [first + int(row) for row in np.flatnonzero(is_empty)]
        if len(empty) >= DatasetInvalid.MOST:
            break
    if empty:
        raise DatasetInvalid("holds no text", *(f"{table.place(row)}, column {text}" for row in empty))
