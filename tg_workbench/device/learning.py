"""Local training: from the round's model to an update, with the engine that jobs train with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tg_workbench.device.rows import Rows
from tg_workbench.engine.specs import Architecture, OptimizerSpec, TrainerSpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import InvalidBatch
from tg_workbench.federation.strategies import Vector
from tg_workbench.federation.strategies.local import add_control, add_proximal, new_control
from tg_workbench.federation.updates import Layout

ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Task:
    """What an assignment asks of the trainer."""

    architecture: str
    shape: Architecture
    layout: Layout
    learning_rate: float
    batch_size: int
    epochs: int
    proximal: float = 0.0
    control: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of it: the update, and what the device says of itself."""

    delta: Vector
    control_delta: Vector | None
    samples: int
    steps: int
    metrics: Mapping[str, float]


class LocalTrainer:
    """Trains one model on a device's rows, by plain SGD, from the parameters that it is given."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.trainer = Trainer(
            TrainerSpec(
                model_ref=task.architecture,
                architecture=task.shape,
                lora=None,
                optimizer=OptimizerSpec("sgd", learning_rate=task.learning_rate, weight_decay=0.0),
                loss=None,
                privacy=None,
                expected_batch_size=None,
                cache_folder=Path(),
            )
        )
        named = dict(self.trainer.network.module.named_parameters())
        self._parameters = [named[name] for name in task.layout.names]

    def learn(
        self,
        rows: Rows,
        start: Vector,
        server_control: Vector | None = None,
        own_control: Vector | None = None,
        *,
        evaluation: Rows | None = None,
    ) -> Learned:
        """Some epochs over the rows. Raises InvalidBatch when they are not what this model reads.

        `evaluation`: rows that are measured on and not learned from; without them, the rows themselves.
        """
        count = count_of(rows)
        self._set(start)
        measured_on = evaluation if evaluation is not None else rows
        before = self.trainer.evaluate(dict(measured_on))
        began, steps = time.monotonic(), 0
        given = self._tensors(start)
        controls = None
        if self.task.control and server_control is not None and own_control is not None:
            controls = self._tensors(server_control), self._tensors(own_control)
        order = np.random.default_rng(self.task.seed)
        for _ in range(self.task.epochs):
            places = order.permutation(count)
            for first in range(0, count, self.task.batch_size):
                batch = places[first : first + self.task.batch_size]
                self._step({name: column[batch] for name, column in rows.items()}, given, controls)
                steps += 1
        took = time.monotonic() - began
        after = self.trainer.evaluate(dict(measured_on))
        delta = self._vector() - start
        control_delta = None
        if self.task.control and server_control is not None and own_control is not None:
            renewed = new_control(own_control, server_control, delta, steps, self.task.learning_rate)
            control_delta = renewed - own_control
        metrics = {"loss": after.loss, "base_loss": before.loss, "training_seconds": took}
        if after.accuracy is not None and before.accuracy is not None:
            metrics |= {"accuracy": after.accuracy, "base_accuracy": before.accuracy}
        finite = {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
        return Learned(delta, control_delta, count, steps, finite)

    def _step(
        self,
        batch: dict[str, NDArray[Any]],
        given: list[torch.Tensor],
        controls: tuple[list[torch.Tensor], list[torch.Tensor]] | None,
    ) -> None:
        """One step of SGD; what a strategy adds to the gradient is a second one: the same for SGD."""
        extra = [torch.zeros_like(parameter) for parameter in self._parameters]
        with torch.no_grad():
            if self.task.proximal:
                add_proximal(extra, self._parameters, given, self.task.proximal)
            if controls is not None:
                add_control(extra, *controls)
        self.trainer.forward_backward(batch)
        self.trainer.optim_step()
        if self.task.proximal or controls is not None:
            with torch.no_grad():
                torch._foreach_sub_([*self._parameters], extra, alpha=self.task.learning_rate)

    def _set(self, vector: Vector) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._tensors(vector), strict=True):
                parameter.copy_(value)

    def _vector(self) -> Vector:
        named = zip(self.task.layout.names, self._parameters, strict=True)
        return self.task.layout.vector({name: p.detach().cpu().numpy() for name, p in named})

    def _tensors(self, vector: Vector) -> list[torch.Tensor]:
        arrays = self.task.layout.arrays(vector)
        device = self.trainer.device
        return [torch.from_numpy(arrays[name].copy()).to(device) for name in self.task.layout.names]


def count_of(rows: Rows) -> int:
    """How many rows there are. Raises InvalidBatch."""
    lengths = {len(column) for column in rows.values()}
    if not {"features", "targets"} <= rows.keys() or len(lengths) != 1 or not min(lengths):
        raise InvalidBatch("a device's rows are features and targets, as many of the one as of the other")
    return int(lengths.pop())
