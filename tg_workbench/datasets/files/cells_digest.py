"""A digest of what stands in a table's cells, the same however the table is written down and read.

Neither its format counts, nor the order or the names of its columns, the order of its rows, its target, its
ranges, or whether it is protected: the same people are told again, and what was protected once is found when
it comes back as public. A row or a column more makes another table.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.files.cells import mapped
from tg_workbench.datasets.raw_columns import moment_of

Hashes = npt.NDArray[np.uint64]


class CellsDigest:
    """Takes a table in frames. What says nothing adds nothing to its row."""

    def __init__(self) -> None:
        self._rows: list[Hashes] = []

    def begin(self, numbers: npt.NDArray[np.float64]) -> None:
        """The next rows, with the numbers in them; NaN where there is none."""
        bits = (np.where(np.isnan(numbers), 0.0, numbers) + 0.0).view(np.uint64)  # -0 is 0
        self._rows.append(np.where(np.isnan(numbers), 0, _mixed(bits)).sum(axis=1, dtype=np.uint64))

    def add_words(self, texts: pl.Series, is_word: npt.NDArray[np.bool_]) -> None:
        """The cells of one column, in these rows, that are words and no numbers."""
        places = mapped(texts.filter(pl.Series(is_word)), _of_word, pl.UInt64).fill_null(0).to_numpy()
        self._rows[-1][is_word] += places

    def hexdigest(self) -> str:
        """The digest of all rows, whatever their order."""
        rows = np.sort(_mixed(np.concatenate(self._rows))) if self._rows else np.empty(0, np.uint64)
        return hashlib.sha256(rows.astype("<u8").tobytes()).hexdigest()


def _of_word(word: str) -> int:
    moment = moment_of(word)
    if moment is not None:  # 31.12.2024, 2024-12-31 and 2024-12-31T00:00:00 are one
        word = moment.isoformat().removesuffix("+00:00").removesuffix("T00:00:00")
    folded = word.casefold().encode(errors="surrogatepass")  # True and true are one
    return int.from_bytes(hashlib.blake2b(folded, digest_size=8).digest(), "little")


def _mixed(bits: Hashes) -> Hashes:
    """Numbers that look like chance. Source: SplitMix64's finalizer (Steele, Lea and Flood, 2014)."""
    mixed: Hashes = bits + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
