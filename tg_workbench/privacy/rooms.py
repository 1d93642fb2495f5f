"""Rooms: memory that holds the whole gradients of a batch, and then those of the next one.

**Why.** Whole gradients are many times the size of the model. Memory that is given back and asked for again
comes empty from the operating system, page by page, and that takes a good part of a step.
"""

from __future__ import annotations

import math

from torch import Tensor


class Rooms:
    """Rooms in the order in which they were first taken, each as large as it ever had to be."""

    def __init__(self) -> None:
        self._rooms: list[Tensor] = []
        self._taken = 0

    def take(self, *shape: int, like: Tensor) -> Tensor:
        """Room that holds anything; it is given again only after `clear`."""
        size = math.prod(shape)
        room = self._rooms[self._taken] if self._taken < len(self._rooms) else None
        if room is None or room.numel() < size or room.dtype != like.dtype or room.device != like.device:
            room = like.new_empty(size)
            self._rooms[self._taken : self._taken + 1] = [room]
        self._taken += 1
        return room[:size].view(shape)

    def clear(self) -> None:
        """What was taken is no longer needed. Rooms that the last batch did not take are given back."""
        del self._rooms[self._taken :]
        self._taken = 0
