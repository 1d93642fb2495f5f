"""What every strategy is: its words, what it asks of devices, and an aggregation that updates are added to.

A vector is all parameters of a model in one flat float32 array, in the order of its layout. An update is a
DELTA: the device's parameters minus those it was given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, runtime_checkable

from tg_workbench.errors import InvalidField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float32]"
"""All parameters in one flat array."""
State: TypeAlias = "Mapping[str, Vector | float]"
"""What a strategy keeps from one round to the next; empty before the first."""

MOST_WEIGHT = 1e9
"""As many samples as one update may speak for: what is added up stays far inside float32."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one device hands in; or many at once, out of secure aggregation: then their weighted mean."""

    delta: Vector
    weight: float
    """How many samples it was learned from: declared, and verified by the caller."""
    staleness: int = 0
    """How many models have been made since the one it started from; FedBuff alone reads it."""
    control: Vector | None = None
    """SCAFFOLD alone: the device's new control variate minus its old one."""
    devices: int = 1
    """How many devices it is the mean of."""

    def __post_init__(self) -> None:
        if not 0.0 < self.weight <= MOST_WEIGHT * self.devices:
            raise InvalidField("weight", f"a number above 0 and at most {MOST_WEIGHT:.0e} for each device")
        if self.staleness < 0:
            raise InvalidField("staleness", "a whole number, 0 or more")
        if self.devices < 1:
            raise InvalidField("devices", "a whole number, 1 or more")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round came to: the new parameters, what the next round needs, and figures to show."""

    parameters: Vector
    state: State
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalRule:
    """What devices do differently while they train; the default: nothing."""

    proximal: float = 0.0
    """FedProx: pull towards the given parameters with this strength."""
    control: bool = False
    """SCAFFOLD: correct each gradient by control variates, and hand in how the own one changed."""


class Aggregation(Protocol):
    """One round's updates on their way to a model. Add them in the order of device ids, then finish once."""

    def add(self, update: Update) -> None:
        """Take in one update; nothing keeps a reference to it unless the strategy needs each update."""

    def finish(self) -> Outcome:
        """The new parameters. Raises TooFewUpdates."""


@runtime_checkable
class Strategy(Protocol):
    """A rule that makes one model out of many updates. Its fields are its options, checked at once."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One or two sentences for whoever chooses: what it is for, what it costs."""
    needs_each_update: ClassVar[bool]
    """True: it must see every update by itself, so it cannot go together with secure aggregation."""

    @property
    def max_staleness(self) -> int | None:
        """By how many versions the model that an update starts from may lie behind; None: by none.

        Not None: devices come when they like, and a round is the filling of one buffer with their updates.
        """

    @property
    def local(self) -> LocalRule:
        """What devices do differently."""

    @property
    def fewest(self) -> int:
        """How many updates it takes at the least."""

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """Start a round from these parameters, which are only read, and not before `finish` if it streams."""


def require(condition: bool, option: str, problem: str) -> None:
    """An option of a strategy is what it must be, or the error says what that is."""
    if not condition:
        raise InvalidField(option, problem)


def is_number(value: object, low: float, high: float = math.inf) -> bool:
    """A real and finite number from `low` to `high`; True and False are none."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def is_count(value: object, low: int, high: int) -> bool:
    """A whole number from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def remembered(state: State, name: str, size: int, first: float = 0.0) -> Vector:
    """A vector that the last round left, not to be changed; before the first, all its numbers are `first`."""
    import numpy as np

    vector = state.get(name)
    if vector is None:
        return np.full(size, first, dtype=np.float32)
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.shape != (size,):
        raise InvalidField(f"state.{name}", f"one flat float32 vector of {size} numbers")
    return vector


def counted(state: State, name: str) -> int:
    """A count that the last round left; 0 before the first."""
    count = state.get(name, 0.0)
    if not isinstance(count, int | float) or count != int(count) or count < 0:
        raise InvalidField(f"state.{name}", "a whole number, 0 or more")
    return int(count)
