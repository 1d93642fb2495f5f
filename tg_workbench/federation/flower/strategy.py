"""A strategy of Flower, as rounds know strategies: begin, add, finish.

Each round has a process of its own and takes along what the strategy remembered at the end of the last one,
so a round that is done again after a crash comes to what it would have come to.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.errors import InvalidField, TooFewUpdates
from tg_workbench.federation.flower.catalogue import PREFIX, check, is_flower
from tg_workbench.federation.flower.process import FlowerProcess
from tg_workbench.federation.strategies import LocalRule, Outcome, State, Strategy, Update, named
from tg_workbench.federation.strategies.mean import check as check_vector
from tg_workbench.federation.strategies.mean import moved, require_single
from tg_workbench.federation.strategies.strategy import Aggregation, counted
from tg_workbench.settings import Settings

if TYPE_CHECKING:
    from tg_workbench.federation.strategies import Vector

ROUND = "flower.round"
"""In the state: how many rounds there were."""
KEPT = "flower."
"""Before what the strategy itself remembers."""
UNSET = "Flower runs in an environment of its own: TG_FLOWER_PYTHON names its Python, and is unset here"


@dataclass(frozen=True, slots=True)
class FlowerStrategy:
    """One of Flower's strategies with its options. Raises InvalidField."""

    name: ClassVar[str] = "flower"
    summary: ClassVar[str] = "One of Flower's own strategies, run by Flower in an environment of its own."
    needs_each_update: ClassVar[bool] = True
    max_staleness: ClassVar[None] = None
    fewest: ClassVar[int] = 1
    kind: str
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.kind, self.options)

    @property
    def local(self) -> LocalRule:
        """FedProx tells devices to stay near; the others tell them nothing."""
        return LocalRule(proximal=float(str(self.options.get("proximal_mu", 0.0))))

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round, in a process that is started at once. Raises InvalidField, Refused."""
        settings = Settings.from_environment()
        python = require_flower(settings.flower_python)
        return FlowerAggregation(self, parameters, state, FlowerProcess(python, settings.home / "flower"))


class FlowerAggregation:
    """One round's updates on their way to Flower's process; this one keeps none of them."""

    def __init__(
        self, rule: FlowerStrategy, parameters: Vector, state: State, process: FlowerProcess
    ) -> None:
        self._process, self._parameters = process, parameters
        self._round = counted(state, ROUND) + 1
        self._devices, self._samples = 0, 0.0
        kept = {name.removeprefix(KEPT): value for name, value in state.items() if name != ROUND}
        numbers = {name: value for name, value in kept.items() if isinstance(value, float)}
        vectors = {name: value for name, value in kept.items() if not isinstance(value, float)}
        begin = {
            "kind": "begin",
            "strategy": rule.kind.removeprefix(PREFIX),
            "options": dict(rule.options),
            "round": self._round,
            "size": len(parameters),
            "numbers": numbers,
            "vectors": list(vectors),
        }
        self._end = weakref.finalize(self, process.close)  # also where nobody comes to finish
        self._write(begin, parameters, *vectors.values())

    def add(self, update: Update) -> None:
        """Hand on one update. Raises UpdateInvalid, FlowerLost."""
        require_single(update)
        check_vector(update.delta, len(self._parameters))
        self._write({"kind": "update", "weight": update.weight}, update.delta)
        self._devices += 1
        self._samples += update.weight

    def finish(self) -> Outcome:
        """What Flower made of them. Raises TooFewUpdates, FlowerLost, UpdateInvalid; Refused with why."""
        try:
            if not self._devices:
                raise TooFewUpdates(have=0, need=1)
            self._process.write({"kind": "end"})
            told, (parameters, *vectors) = self._process.read(len(self._parameters))
        finally:
            self._end()
        state: dict[str, Vector | float] = {ROUND: float(self._round)}
        state |= {KEPT + name: float(value) for name, value in told["numbers"].items()}
        state |= {KEPT + name: vector for name, vector in zip(told["vectors"], vectors, strict=True)}
        figures = {"devices": self._devices, "samples": self._samples}
        return moved(self._parameters, parameters - self._parameters, state, figures)

    def _write(self, header: Mapping[str, object], *vectors: Vector) -> None:
        try:
            self._process.write(header, vectors)
        except BaseException:
            self._end()
            raise


def require_flower(python: Path | None) -> Path:
    """The Python that has Flower. Raises InvalidField where none is named."""
    if python is None:
        raise InvalidField("strategy", UNSET)
    return python


def strategy_named(name: str, **chosen: object) -> Strategy:
    """One of our strategies, or of Flower's. Raises InvalidField."""
    return FlowerStrategy(name, chosen) if is_flower(name) else named(name, **chosen)
