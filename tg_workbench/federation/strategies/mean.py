"""The weighted mean of deltas, in constant memory: one sum, however many devices add to it.

Σ wᵢ·Δᵢ is kept in float32 and divided once. It is added by torch, whose `add_(…, alpha=w)` reads each delta
once and makes no second array; with one thread, for two on shared processors are slower, and so that the bits
are the same on every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tg_workbench.errors import TooFewUpdates, UpdateInvalid
from tg_workbench.federation.strategies.strategy import Outcome, State, Update

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector

BLOCK = 1 << 15
"""Numbers at a time where squares are added: they fit into the processor's second cache."""
LEAST_SQUARES = 1e-20
"""Below it, squares of single numbers may have been lost under the smallest float32."""


class Mean:
    """A weighted mean of vectors on its way."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self._sum = np.zeros(size, dtype=np.float32)
        self.weight = 0.0
        self.devices = 0

    def add(self, vector: Vector, weight: float, devices: int = 1, factor: float = 1.0) -> None:
        """Take in one vector times a factor; it is not kept."""
        import torch
        from torch.utils.dlpack import from_dlpack  # unlike from_numpy it also takes what is read-only

        check(vector, len(self._sum))
        with one_thread():
            torch.from_numpy(self._sum).add_(from_dlpack(vector), alpha=weight * factor)
        self.weight += weight
        self.devices += devices

    def finish(self, divisor: float | None = None) -> Vector:
        """The mean, or the weighted sum over another divisor. The array is the caller's from here on."""
        import numpy as np

        if not self.devices:
            raise TooFewUpdates(have=0, need=1)
        self._sum /= np.float32(self.weight if divisor is None else divisor)
        return self._sum


Step = Callable[["Vector", State], "tuple[Vector, State]"]
"""(mean of the deltas, last state) → (what to add to the parameters, next state); the mean may be changed."""


class MeanThenStep:
    """Constant memory: the mean of the deltas is a step, which a server optimizer may change."""

    def __init__(self, parameters: Vector, state: State, step: Step) -> None:
        self._parameters, self._state, self._step = parameters, state, step
        self._mean = Mean(len(parameters))

    def add(self, update: Update) -> None:
        """Take in one update, weighted by its samples."""
        self._mean.add(update.delta, update.weight, update.devices)

    def finish(self) -> Outcome:
        """The parameters moved by the step."""
        figures = {"devices": self._mean.devices, "samples": self._mean.weight}
        step, state = self._step(self._mean.finish(), self._state)
        return moved(self._parameters, step, state, figures)


def moved(parameters: Vector, step: Vector, state: State, figures: Mapping[str, float]) -> Outcome:
    """`parameters` plus `step`, written over the step. Refuses what is not finite."""
    import numpy as np

    check(parameters, len(step))
    squares = after = 0.0
    for start in range(0, len(step), BLOCK):
        block = step[start : start + BLOCK]
        squares += _squares(block)
        np.add(block, parameters[start : start + BLOCK], out=block)
        after += _squares(block)
    if not math.isfinite(after):
        raise UpdateInvalid("together these updates lead to numbers that are not finite")
    told = {name: float(figure) for name, figure in figures.items()}
    return Outcome(step, state, {**told, "step_norm": math.sqrt(squares)})


def length(vector: Vector) -> float:
    """‖x‖₂ in float64, block by block; NaN or infinite only if a number is."""
    return math.sqrt(sum(_squares(vector[n : n + BLOCK]) for n in range(0, len(vector), BLOCK)))


def _squares(block: Vector) -> float:
    """Σ x² of a block; NaN or infinite only if a number is. In float64 where float32 does not hold it."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        squares = float(block @ block)
    if math.isfinite(squares) and (squares > LEAST_SQUARES or not block.any()):
        return squares
    wide = block.astype(np.float64)
    return float(wide @ wide)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch works with one thread until the block ends."""
    import torch

    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def require_single(update: Update) -> None:
    """One device's own update: a mean out of secure aggregation hides what this rule must see."""
    if update.devices != 1:
        raise UpdateInvalid("this strategy needs each device's own update")


def check(vector: Vector, size: int) -> None:
    """A flat float32 vector of this length, or UpdateInvalid."""
    import numpy as np

    if vector.dtype != np.float32 or vector.shape != (size,):
        raise UpdateInvalid(f"an update is one flat float32 vector of {size} numbers")
