"""Simulation: federated learning of many devices on one machine, to see how a strategy fares beforehand.

    from tg_workbench.sdk.device import simulate

    found = simulate(devices, "mlp", evaluation=test, strategy="fedavg", rounds=20, fraction=0.2)
    found.accuracy      # after each round

`devices` are the rows of each. No server, no keys: the strategies and the local training are those of real
rounds, the rest is left out. The same seed gives the same numbers.

With `backend="flower"` Flower does it: its own strategy in its own simulation, each device a ClientApp on an
actor of Ray. It takes seconds to begin, and the rounds take longer; it shows what a strategy does in Flower.

Pitfalls: nothing here is private, and nobody comes late: rounds are synchronous. FedBuff is then the mean of
the updates of a round, each counting alike, and `max_staleness` changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tg_workbench.device.flock import Flock
from tg_workbench.device.flower_simulation import FlowerSimulation, flower_strategy
from tg_workbench.device.in_process import InProcess
from tg_workbench.device.learning import Task
from tg_workbench.device.rows import Rows
from tg_workbench.engine.answers import RightAnswers
from tg_workbench.engine.architectures import build
from tg_workbench.engine.objectives import Objective
from tg_workbench.engine.reader import Reader
from tg_workbench.engine.specs import FLOAT32, Architecture
from tg_workbench.errors import InvalidField
from tg_workbench.federation.strategies import LocalRule, Vector, named
from tg_workbench.federation.updates import Layout

BACKENDS = ("in-process", "flower")


@dataclass(frozen=True, slots=True)
class SimulatedRound:
    """One round: who was in it, and what the model is worth after it."""

    number: int
    loss: float
    accuracy: float | None
    convergence: float | None
    """The length of the step in that of the parameters; it falls as the model settles."""
    devices: int
    """How many updates were aggregated."""
    dropped: int
    """How many devices were drawn and then were gone."""
    completed: bool
    """False: too few were left, and the model stayed as it was."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the strategy says of it."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation came to."""

    history: tuple[SimulatedRound, ...]
    parameters: Mapping[str, NDArray[np.float32]] = field(repr=False)
    """By name, as `Models` would show them."""

    @property
    def accuracy(self) -> list[float | None]:
        """After each round; None for a model of numbers."""
        return [each.accuracy for each in self.history]

    @property
    def loss(self) -> list[float]:
        """After each round."""
        return [each.loss for each in self.history]

    @property
    def convergence(self) -> list[float | None]:
        """After each round."""
        return [each.convergence for each in self.history]

    def rounds_to(self, accuracy: float) -> int | None:
        """After how many rounds the model was as good as that; None: never."""
        good = (r.number for r in self.history if r.accuracy is not None and r.accuracy >= accuracy)
        return next(good, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What is simulated, checked when it is made. Raises InvalidField."""

    architecture: str = "logistic"
    hidden_sizes: tuple[int, ...] = ()
    output_size: int | None = None
    """None: as many as there are classes in the rows."""
    strategy: str = "fedavg"
    """With `backend="flower"`: fedavg, or one of Flower's own by its name, as `flower:FedYogi`."""
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 10
    fraction: float = 1.0
    """Which part of the devices each round draws."""
    drop_outs: float = 0.0
    """How likely each of them is to be gone before it hands in."""
    quorum: int = 1
    """How many must be left for a model to be made."""
    learning_rate: float = 0.05
    batch_size: int = 32
    epochs: int = 1
    seed: int = 0
    backend: str = "in-process"
    """Or `flower`: by Flower's simulation on Ray, in an environment of Flower's own."""
    flower_python: Path | str | None = None
    """The Python of that environment; None: the one that `TG_FLOWER_PYTHON` names."""

    def __post_init__(self) -> None:
        _check(self.backend in BACKENDS, "backend", f"one of {', '.join(BACKENDS)}")
        if self.backend == "flower":
            flower_strategy(self.strategy, self.strategy_options)
        else:
            named(self.strategy, **self.strategy_options)
        _check(1 <= self.rounds <= 100_000, "rounds", "from 1 to 100,000")
        _check(0.0 < self.fraction <= 1.0, "fraction", "above 0, and at most 1")
        _check(0.0 <= self.drop_outs < 1.0, "drop_outs", "0 or more, and below 1")
        _check(self.quorum >= 1, "quorum", "1 or more")
        _check(0 < self.learning_rate <= 100, "learning_rate", "above 0, and at most 100")
        _check(self.batch_size >= 1, "batch_size", "1 or more")
        _check(self.epochs >= 1, "epochs", "1 or more")
        _check(0 <= self.seed < 2**63, "seed", "from 0 to 2^63 - 1")

    def run(
        self,
        devices: Sequence[Rows],
        evaluation: Rows | None = None,
        on_round: Callable[[SimulatedRound], None] | None = None,
    ) -> Simulated:
        """All rounds. The model is measured on `evaluation`, or on all rows of all devices.

        Raises InvalidBatch for rows that the model does not read, UpdateInvalid where it runs away; with
        Flower also InvalidField where no Python has it, and Refused, with its last words, where it fails.
        """
        _check(len(devices) >= 1, "devices", "the rows of at least one device")
        world = World(self, devices, evaluation)
        history = []
        try:
            for number in range(1, self.rounds + 1):
                history.append(world.round(number))
                if on_round is not None:
                    on_round(history[-1])
        finally:
            world.close()
        return Simulated(tuple(history), world.named_parameters)


def simulate(
    devices: Sequence[Rows],
    architecture: str = "logistic",
    *,
    evaluation: Rows | None = None,
    on_round: Callable[[SimulatedRound], None] | None = None,
    **chosen: Any,
) -> Simulated:
    """Simulate federated learning; `chosen` are fields of `Simulation`. Raises what it raises."""
    return Simulation(architecture=architecture, **chosen).run(devices, evaluation, on_round)


class Engine(Protocol):
    """What makes the next model."""

    fewest: int
    """Of how many updates at least."""

    def next(self, number: int, who: Sequence[int], parameters: Vector) -> tuple[Vector, Mapping[str, float]]:
        """The next model out of what these devices learn from this one, and what the strategy says of it."""
        ...

    def close(self) -> None:
        """End all that it has begun."""


class World:
    """The model as it is, and what measures it and makes the next."""

    def __init__(self, asked: Simulation, devices: Sequence[Rows], evaluation: Rows | None) -> None:
        self._asked = asked
        measured_on = dict(evaluation) if evaluation is not None else _together(devices)
        shape = Architecture(
            np.shape(devices[0]["features"])[1:],
            asked.output_size or _outputs([*devices, measured_on]),
            asked.hidden_sizes,
        )
        self._network = build(asked.architecture, shape, Path(), seed=asked.seed)
        self._reader = Reader(self._network, None)
        self._evaluation, self._loss_name = self._reader.read(measured_on)
        self._objective = Objective(self._network, FLOAT32, None)
        arrays = {name: p.detach().cpu().numpy() for name, p in self._tensors.items()}
        self._layout = Layout.of({name: array.shape for name, array in arrays.items()})
        self._parameters: Vector = self._layout.vector(arrays)
        self._everybody = len(devices)
        self._engine = self._made_engine(shape, devices)

    @property
    def named_parameters(self) -> dict[str, NDArray[np.float32]]:
        """The model as it is."""
        return self._layout.arrays(self._parameters.copy())

    def round(self, number: int) -> SimulatedRound:
        """Draw devices, have them learn, aggregate, measure."""
        before = self._parameters
        drawn, left = self._draw(number)
        is_enough = len(left) >= max(self._asked.quorum, self._engine.fewest)
        figures: Mapping[str, float] = {}
        if is_enough:
            self._parameters, figures = self._engine.next(number, left, self._parameters)
        length, step = (float(np.linalg.norm(each)) for each in (before, self._parameters - before))
        loss, accuracy = self._measured()
        return SimulatedRound(
            number=number,
            loss=loss,
            accuracy=accuracy,
            convergence=step / length if length > 0 else None,
            devices=len(left) if is_enough else 0,
            dropped=len(drawn) - len(left),
            completed=is_enough,
            figures=figures,
        )

    def close(self) -> None:
        """End all that it has begun."""
        self._engine.close()

    def _draw(self, number: int) -> tuple[list[int], list[int]]:
        """Who is drawn, and who of them is there to the end; both in order, as rounds add updates."""
        by_chance = np.random.default_rng([self._asked.seed, number])
        count = max(1, round(self._asked.fraction * self._everybody))
        drawn = np.sort(by_chance.choice(self._everybody, count, replace=False))
        stays = by_chance.random(count) >= self._asked.drop_outs
        return drawn.tolist(), drawn[stays].tolist()

    def _measured(self) -> tuple[float, float | None]:
        """The mean loss, and the part of the answers that is right."""
        arrays = self._layout.arrays(self._parameters)
        losses, right = [], RightAnswers(self._loss_name)
        with torch.inference_mode():
            for name, tensor in self._tensors.items():
                tensor.copy_(torch.from_numpy(arrays[name]))
            for part in self._reader.parts(self._evaluation, None):
                said = self._objective.answer(part)
                targets = self._objective.targets(part, said.device)
                losses.append(self._objective.weighed(said, targets, self._loss_name))
                right.add(said, targets)
        return float(torch.cat(losses).double().mean()), right.accuracy

    @property
    def _tensors(self) -> dict[str, torch.nn.Parameter]:
        return dict(self._network.module.named_parameters())

    def _made_engine(self, shape: Architecture, devices: Sequence[Rows]) -> Engine:
        asked = self._asked
        if asked.backend == "flower":
            theirs = flower_strategy(asked.strategy, asked.strategy_options)
            task = self._task(shape, theirs.local)
            return FlowerSimulation(theirs, task, devices, asked.seed, asked.flower_python)
        ours = named(asked.strategy, **asked.strategy_options)
        return InProcess(ours, Flock(self._task(shape, ours.local), devices), asked.seed)

    def _task(self, shape: Architecture, rule: LocalRule) -> Task:
        return Task(
            architecture=self._asked.architecture,
            shape=shape,
            layout=self._layout,
            learning_rate=self._asked.learning_rate,
            batch_size=self._asked.batch_size,
            epochs=self._asked.epochs,
            proximal=rule.proximal,
            control=rule.control,
        )


def _together(devices: Sequence[Rows]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([rows[name] for rows in devices]) for name in ("features", "targets")}


def _outputs(all_rows: Sequence[Rows]) -> int:
    """As many as there are classes; as there are numbers in a target where they are no classes."""
    targets = [np.asarray(rows["targets"]) for rows in all_rows]
    if all(np.issubdtype(each.dtype, np.integer) for each in targets):
        return max(2, 1 + max(int(each.max(initial=0)) for each in targets))
    return max(1, math.prod(targets[0].shape[1:]))


def _check(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise InvalidField(name, f"must be {expected}")
