"""Units: the examples that are about one person, added up before they are clipped.

Where a person owns several rows, what is clipped is the sum of their gradients (user-level privacy, McMahan
et al. 2018): a unit moves the total by the bound at most, however many rows it has.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.shares import Factors, Share


class Units:
    """Which unit each example of a batch belongs to: `of` is [examples], numbers from 0 to `count` - 1."""

    __slots__ = ("_place", "_rows", "count", "of")

    def __init__(self, of: Tensor) -> None:
        """Raises InvalidRequest unless `of` is a list of whole numbers from 0 on, none left out."""
        if of.dim() != 1 or of.dtype != torch.long:
            raise InvalidRequest("the units of a batch are one whole number per example")
        present, self.of = torch.unique(of, return_inverse=True)
        self.count = len(present)
        if self.count and (int(present[0]) != 0 or int(present[-1]) != self.count - 1):
            raise InvalidRequest("the units of a batch are numbered from 0, and none is left out")
        sizes = torch.bincount(self.of, minlength=self.count)
        self._rows = int(sizes.max()) if self.count else 0
        order = torch.argsort(self.of, stable=True)
        starts = sizes.cumsum(0) - sizes
        self._place = torch.empty_like(self.of)
        self._place[order] = torch.arange(len(of), device=of.device) - starts[self.of[order]]

    def total(self, values: Tensor) -> Tensor:
        """[examples, …] → [units, …]: each unit's sum."""
        return values.new_zeros(self.count, *values.shape[1:]).index_add_(0, self.of, values)

    def every(self, holds: Tensor) -> Tensor:
        """[examples] of booleans → [units]: whether it holds for each example of a unit."""
        return self.total((~holds).long()) == 0

    def share(self, share: Share) -> Share:
        """A layer's part of each example's gradient → its part of each unit's."""
        if not isinstance(share, Factors):
            return self.total(share)
        # Σ over examples of Σₜ left[t] ⊗ right[t] is one longer Σₜ: the rows of a unit's examples lie end to
        # end, and zeros fill what shorter units leave.
        laid = replace(share, left=self._end_to_end(share.left), right=self._end_to_end(share.right))
        # A unit with many rows is measured whole: there would be too many pairs of rows.
        return laid.settled()

    def _end_to_end(self, rows: Tensor) -> Tensor:
        laid = rows.new_zeros(self.count, self._rows, *rows.shape[1:])
        laid[self.of, self._place] = rows
        return laid.flatten(1, 2)
