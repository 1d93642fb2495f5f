"""Rows in a file of the device's owner: an .npz with `features` and `targets`, or a .csv with a target.

Neither is ever run as code. Targets are whole numbers, for a class's number has to be the same everywhere.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tg_workbench.device.rows import Rows
from tg_workbench.errors import InvalidBatch

NEEDED = ("features", "targets")


def rows_in(path: Path, target: str | None = None) -> Rows:
    """The rows in a file; `target` names the column of a .csv that is learned. Raises InvalidBatch."""
    try:
        if path.suffix.lower() == ".npz":
            return _checked(*_of_archive(path))
        if path.suffix.lower() == ".csv":
            return _checked(*_of_table(path, target))
    except (OSError, pl.exceptions.PolarsError) as failure:
        told = failure.strerror if isinstance(failure, OSError) else None
        raise InvalidBatch(f"{path.name} cannot be read: {told or 'it holds no table'}") from None
    raise InvalidBatch(f"{path.name}: rows come in an .npz or a .csv file")


def _of_archive(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in NEEDED if name not in archive]
            if missing:
                raise InvalidBatch(f"{path.name} has no array called {missing[0]}")
            return archive["features"], archive["targets"]
    except (ValueError, EOFError, zipfile.BadZipFile):  # objects are refused as a ValueError
        raise InvalidBatch(f"{path.name} holds more than plain arrays of numbers, or is broken") from None


def _of_table(path: Path, target: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
    table = pl.read_csv(path)
    if target is None or target not in table.columns:
        raise InvalidBatch(f"say with --target which column is learned: {', '.join(table.columns[:20])}")
    if not table.height:
        raise InvalidBatch(f"{path.name} has no rows, and one at least is needed")
    for name in table.columns:
        column = table[name]
        if column.null_count():
            raise InvalidBatch(f"column {name} has {column.null_count()} missing values: fill them in first")
        if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            raise InvalidBatch(f"column {name} does not hold numbers: say categories and classes as numbers")
    return table.drop(target).to_numpy().astype(np.float32), table[target].to_numpy()


def _checked(features: NDArray[Any], targets: NDArray[Any]) -> Rows:
    """As a model reads them: features of 32 bits, targets of whole numbers or of 32 bits."""
    if features.dtype.kind not in "fiub" or targets.dtype.kind not in "fiub":
        raise InvalidBatch("features and targets are numbers")
    if features.ndim < 2 or targets.ndim < 1 or len(features) != len(targets):
        raise InvalidBatch("features have a row for each of the targets")
    if not len(targets):
        raise InvalidBatch("there are no rows, and one at least is needed")
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise InvalidBatch("features and targets are finite: there is a NaN or an infinity among them")
    kind = np.float32 if targets.dtype.kind == "f" else np.int64
    return {"features": features.astype(np.float32), "targets": targets.astype(kind)}
