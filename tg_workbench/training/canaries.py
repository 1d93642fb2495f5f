"""A client's canaries: examples made up from its secret seed, half of which it learns beside its dataset.

They are more records in the server's Poisson sampling. What real records have is untouched: the sample rate
and the public number that sums are divided by stay those of the dataset alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tg_workbench.datasets import Dataset
from tg_workbench.engine.canaries import Seed, canary_rows
from tg_workbench.engine.trainer import Trainer
from tg_workbench.training.rows import Batch, DatasetRows


@dataclass(frozen=True, slots=True)
class Canaries:
    """All canaries of a client, and the coin of each. `learned`: the numbers of those that take part."""

    rows: DatasetRows
    present: NDArray[np.bool_]
    learned: NDArray[np.int64]

    @classmethod
    def of(cls, config: dict[str, Any], dataset: Dataset, trainer: Trainer) -> Canaries | None:
        """The canaries that a client was created with, the same ones every time; None without any."""
        count: int = config.get("audit_canaries") or 0
        if not count:
            return None
        seed = Seed(config["audit_seed"])
        header = json.loads(dataset.tensors) if dataset.tensors else None
        columns = canary_rows(trainer.network, count, seed, header=header, loss=trainer.spec.loss)
        trainer.check(columns)
        present = seed.coins(count)
        return cls(DatasetRows(trainer.prepare(columns), count), present, np.flatnonzero(present))

    def join(self, rows: DatasetRows, drawn: Sequence[int]) -> tuple[Batch, int]:
        """The batch of a draw from `rows.size` rows and then the learned canaries, and how many of those.

        The canaries come last in it.
        """
        real = [number for number in drawn if number < rows.size]
        extra = [int(self.learned[number - rows.size]) for number in drawn if number >= rows.size]
        batch, beside = rows.take(real), self.rows.take(extra)
        # In the types of the rows: bytes that turned into larger numbers would no longer be read as pixels.
        return {
            name: _stacked(batch[name], column.astype(batch[name].dtype, copy=False))
            for name, column in beside.items()
        }, len(extra)


def _stacked(rows: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Both, one under the other; tokens padded to the longer of the two."""
    if rows.ndim == 2 and rows.shape[1] != more.shape[1]:
        width = max(rows.shape[1], more.shape[1])
        rows, more = (np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in (rows, more))
    return np.concatenate([rows, more])
