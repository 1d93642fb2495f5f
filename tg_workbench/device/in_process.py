"""How the rounds of a simulation are made in this very process: all devices learn at once, as a flock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tg_workbench.device.flock import Flock, Pull
from tg_workbench.federation.strategies import State, Strategy, Update, Vector
from tg_workbench.federation.strategies.strategy import remembered

SERVER_CONTROL = "control"
"""What SCAFFOLD calls its own control variate in its state."""


class InProcess:
    """The devices, and what the strategy and the devices remember."""

    def __init__(self, strategy: Strategy, flock: Flock, seed: int) -> None:
        self._strategy, self._flock, self._seed = strategy, flock, seed
        self._state: State = {}
        shape = (len(flock.samples), flock.task.layout.size)
        self._own = np.zeros(shape, np.float32) if flock.task.control else None
        self.fewest = strategy.fewest

    def next(self, number: int, who: Sequence[int], parameters: Vector) -> tuple[Vector, Mapping[str, float]]:
        """The next model out of what these devices learn from this one."""
        seeds = [seed_of(self._seed, number, device) for device in who]
        flown = self._flock.learn(who, seeds, parameters, self._pull(who))
        aggregation = self._strategy.begin(parameters, self._state)
        for n, device in enumerate(who):
            change = None if flown.control_deltas is None else flown.control_deltas[n]
            aggregation.add(Update(flown.deltas[n], float(self._flock.samples[device]), control=change))
        outcome = aggregation.finish()
        self._state = outcome.state
        if self._own is not None and flown.control_deltas is not None:
            self._own[list(who)] += flown.control_deltas  # they count once they are in the model
        return outcome.parameters, outcome.figures

    def close(self) -> None:
        """There is nothing to be ended."""

    def _pull(self, who: Sequence[int]) -> Pull | None:
        if self._own is None:
            return None
        server = remembered(self._state, SERVER_CONTROL, self._flock.task.layout.size)
        return Pull(server, self._own[list(who)])


def seed_of(*parts: int) -> int:
    """What a device draws its order from: another for each device and each round."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
