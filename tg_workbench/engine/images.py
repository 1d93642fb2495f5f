"""Images: in which shape a network of convolutions sees its examples, rows of a table among them.

A row is laid out line by line as a square of one channel, padded with 0 at its end. What stands beside or
above what is then an accident of the columns' order: it lets such a network learn a table, not learn it well.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from tg_workbench.errors import InvalidRequest

SMALLEST_IMAGE = 8
Image = tuple[int, int, int]
"""Channels, height, width."""


def as_image(shape: tuple[int, ...], name: str) -> tuple[Image, nn.Module | None]:
    """The image that the network `name` makes of examples of this shape, and what lays them out so.

    None: they are images as they come. Raises InvalidRequest for what is neither an image nor a row.
    """
    if len(shape) == 1:
        side = max(SMALLEST_IMAGE, math.isqrt(shape[0] - 1) + 1)
        return (1, side, side), AsImage(side)
    if len(shape) != 3 or min(shape[1:]) < SMALLEST_IMAGE:
        raise InvalidRequest(
            f"{name} needs an input_shape of channels × height × width, at least 8×8 pixels, or of a table's "
            "columns"
        )
    return (shape[0], shape[1], shape[2]), None


class AsImage(nn.Module):
    """[examples, columns] → [examples, 1, side, side], the rest filled up with 0."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, rows: Tensor) -> Tensor:
        """Each row by itself."""
        padded = F.pad(rows, (0, self.side**2 - rows.shape[1]))
        return padded.view(-1, 1, self.side, self.side)
