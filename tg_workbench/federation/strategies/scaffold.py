"""SCAFFOLD: devices correct their drift by control variates, which the server averages.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled Averaging for Federated
Learning", ICML 2020, Algorithm 1: x ← x + (η/|S|)·Σ Δyᵢ and c ← c + (1/N)·Σ Δcᵢ; every device counts alike.
The devices' lines 10 and 12 are in `local`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.errors import UpdateInvalid
from tg_workbench.federation.strategies.mean import Mean, moved
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import (
    Aggregation,
    LocalRule,
    Outcome,
    State,
    Update,
    is_count,
    is_number,
    remembered,
    require,
)

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector

CONTROL = "control"
"""The state's control variate, given to devices with the model; before the first round: zeros."""


@strategy
@dataclass(frozen=True, slots=True)
class Scaffold:
    """The mean of updates from devices that correct their drift."""

    name: ClassVar[str] = "scaffold"
    summary: ClassVar[str] = (
        "Devices correct their drift, so data that differ cost fewer rounds. An update is twice as long, "
        "devices remember a vector between rounds, and they must train by plain SGD."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    local: ClassVar[LocalRule] = LocalRule(control=True)
    fewest: ClassVar[int] = 1
    server_learning_rate: float = 1.0
    population: int | None = None
    """N, how many devices there are in all; None: those of the round."""

    def __post_init__(self) -> None:
        require(
            is_number(self.server_learning_rate, 1e-9, 1e3),
            "server_learning_rate",
            "a number from 1e-9 to 1e3",
        )
        is_population = self.population is None or is_count(self.population, 1, 10**9)
        require(is_population, "population", "a whole number from 1 to 1e9, or none")

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round of two means: of the updates, and of how the control variates changed."""
        return Controlled(parameters, state, self)


class Controlled:
    """Both means on their way."""

    def __init__(self, parameters: Vector, state: State, rule: Scaffold) -> None:
        self._parameters, self._state, self._rule = parameters, state, rule
        self._deltas, self._controls = Mean(len(parameters)), Mean(len(parameters))
        self._samples = 0.0

    def add(self, update: Update) -> None:
        """Take in one update and its control variate."""
        if update.control is None:
            raise UpdateInvalid("an update for SCAFFOLD comes with its control variate")
        self._deltas.add(update.delta, float(update.devices), update.devices)
        self._controls.add(update.control, float(update.devices), update.devices)
        self._samples += update.weight

    def finish(self) -> Outcome:
        """The parameters moved by the one mean, the server's control variate by the other."""
        devices = self._deltas.devices
        figures = {"devices": devices, "samples": self._samples}
        step = self._deltas.finish(divisor=devices / self._rule.server_learning_rate)
        control = self._controls.finish(divisor=max(devices, self._rule.population or 0))
        control += remembered(self._state, CONTROL, len(control))
        return moved(self._parameters, step, {CONTROL: control}, figures)
