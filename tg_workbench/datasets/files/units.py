"""Units: the column that says whom each row is about, as whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.files.cells import names_of
from tg_workbench.datasets.files.profile import Profile
from tg_workbench.errors import DatasetInvalid

LARGEST_EXACT = 2**53


class Units:
    """Whole numbers stay what they are; other names are numbered as they first appear."""

    def __init__(self, profile: Profile, name: str) -> None:
        found = profile.columns[name]
        if found.gaps:
            raise DatasetInvalid(
                "does not say whom the row is about", *(profile.place(row, name) for row in found.gaps)
            )
        size = max(abs(found.minimum), abs(found.maximum))
        self._is_whole = found.type == "number" and found.is_whole and size < LARGEST_EXACT
        self._numbers: dict[str, int] = {}

    def read(self, column: pl.Series) -> npt.NDArray[np.int64]:
        """The next rows' units."""
        if self._is_whole:
            whole = column.str.strip_chars() if column.dtype == pl.String else column
            return whole.cast(pl.Float64).cast(pl.Int64).to_numpy()
        numbers = self._numbers
        ids = (numbers.setdefault(name, len(numbers)) for name in names_of(column))
        return np.fromiter(ids, dtype=np.int64, count=len(column))
