"""Flock: many devices of one process that train side by side, as one computation.

Each has parameters of its own, and all take their next step at once: for small models that is tens of times
quicker than one after the other, and comes to what `LocalTrainer` comes to, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap

from tg_workbench.device.learning import Task, count_of
from tg_workbench.device.rows import Rows
from tg_workbench.engine.architectures import build
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.reader import Reader
from tg_workbench.errors import InvalidBatch, InvalidRequest
from tg_workbench.federation.strategies import Vector
from tg_workbench.federation.strategies.local import new_control

MOST_NUMBERS = 1 << 25
"""How many numbers of parameters, or of rows, are in flight at once (128 MiB as float32)."""


@dataclass(frozen=True, slots=True)
class Pull:
    """SCAFFOLD's control variates: the server's, and each device's own."""

    server: Vector
    own: NDArray[np.float32]
    """[devices, numbers]."""


@dataclass(frozen=True, slots=True)
class Flown:
    """What came of it: for each device its update, and how its control variate changed where it has one."""

    deltas: NDArray[np.float32]
    """[devices, numbers]."""
    control_deltas: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Places:
    """Which rows each device takes in each step, and what each of them counts for."""

    index: Tensor
    """[steps, devices, rows]; where a device has fewer, any row of its own, which then counts for 0."""
    weight: Tensor
    """[steps, devices, rows]: 1 over the size of the batch."""
    steps: NDArray[np.int64]
    """How many steps each device takes."""


class Flock:
    """Devices with rows, all of which learn by the same task. Raises InvalidBatch, InvalidRequest."""

    def __init__(self, task: Task, devices: Sequence[Rows]) -> None:
        self.task = task
        network = build(task.architecture, task.shape, Path())
        if not isinstance(network, RowModel) or network.front is not None:
            raise InvalidRequest(f"devices do not learn {task.architecture}: it learns from prepared rows")
        self._module = network.module.to("cuda" if torch.cuda.is_available() else "cpu").train()
        self._loss = LOSSES["mse"]
        self.samples = [count_of(rows) for rows in devices]
        self._first = np.cumsum([0, *self.samples])
        self._read(network, devices)
        self._width = max(1, network.numbers({"features": self._features[:1]}))

    def learn(
        self, who: Sequence[int], seeds: Sequence[int], start: Vector, pull: Pull | None = None
    ) -> Flown:
        """Have these devices learn from `start`, each in the order that its seed draws."""
        rows = min(self.task.batch_size, max(self.samples[device] for device in who))
        many = max(1, MOST_NUMBERS // max(self.task.layout.size, rows * self._width))
        deltas = np.empty((len(who), self.task.layout.size), np.float32)
        changes = np.empty_like(deltas) if pull is not None else None
        for begin in range(0, len(who), many):
            part = slice(begin, begin + many)
            places = self._places(who[part], seeds[part])
            own = None if pull is None else Pull(pull.server, pull.own[part])
            deltas[part] = self._fly(places, start, own)
            if changes is not None and own is not None:
                for n, steps in enumerate(places.steps, start=begin):
                    renewed = new_control(
                        own.own[n - begin], own.server, deltas[n], int(steps), self.task.learning_rate
                    )
                    changes[n] = renewed - own.own[n - begin]
        return Flown(deltas, changes)

    def _fly(self, places: Places, start: Vector, pull: Pull | None) -> NDArray[np.float32]:
        """All steps of some devices; the updates they come to."""
        given = self._tensors(start[None])
        mine = {
            name: value.expand(len(places.steps), *value.shape[1:]).clone() for name, value in given.items()
        }
        extra = self._tensors(pull.server[None] - pull.own) if pull is not None else None
        rate = self.task.learning_rate
        moves = torch.from_numpy(places.steps)
        for step, (index, weight) in enumerate(zip(places.index, places.weight, strict=True)):
            gradient = self._gradient(mine, index, weight)
            if self.task.proximal:
                for name, value in mine.items():
                    gradient[name] += (value - given[name]) * self.task.proximal
            if extra is not None:
                for name, value in extra.items():
                    gradient[name] += value
            if self.task.proximal or extra is not None:
                still = (moves <= step).nonzero().flatten().to(index.device)
                for value in gradient.values():
                    value[still] = 0.0
            torch._foreach_sub_(list(mine.values()), list(gradient.values()), alpha=rate)
        found = self._vectors(mine) - start
        if not np.isfinite(found).all():
            raise InvalidBatch(
                "a device's update is not finite: lower the learning rate or scale the features"
            )
        return found

    def _gradient(self, parameters: dict[str, Tensor], index: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Each device's mean gradient over its batch: the devices know nothing of each other."""
        leaves = {name: value.requires_grad_() for name, value in parameters.items()}
        said = vmap(lambda own, rows: functional_call(self._module, own, (rows,)))(
            leaves, self._features[index]
        )
        losses = self._loss(said.flatten(0, 1), self._targets[index].flatten(0, 1))
        total = (losses * weight.flatten()).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()))
        for value in parameters.values():
            value.requires_grad_(False)
        return dict(zip(leaves, gradients, strict=True))

    def _places(self, who: Sequence[int], seeds: Sequence[int]) -> Places:
        """The batches of `LocalTrainer`, for all devices side by side."""
        size, epochs = self.task.batch_size, self.task.epochs
        counts = [self.samples[device] for device in who]
        per_epoch = [math.ceil(count / size) for count in counts]
        rows = min(size, max(counts))
        steps = np.array(per_epoch) * epochs
        index = np.repeat(self._first[list(who)][None, :, None], steps.max(), 0).repeat(rows, 2)
        weight = np.zeros(index.shape, np.float32)
        for n, (device, seed) in enumerate(zip(who, seeds, strict=True)):
            order = np.random.default_rng(seed)
            for epoch in range(epochs):
                drawn = order.permutation(counts[n]) + self._first[device]
                for step in range(per_epoch[n]):
                    batch = drawn[step * size : (step + 1) * size]
                    at = epoch * per_epoch[n] + step
                    index[at, n, : len(batch)], weight[at, n, : len(batch)] = batch, 1.0 / len(batch)
        place = self._features.device
        return Places(torch.from_numpy(index).to(place), torch.from_numpy(weight).to(place), steps)

    def _read(self, network: RowModel, devices: Sequence[Rows]) -> None:
        """All rows of all devices, one behind the other."""
        reader = Reader(network, None)
        read = [reader.read(dict(rows)) for rows in devices]
        names = {name for _, name in read}
        if len(names) != 1:
            raise InvalidBatch("the targets of all devices are of one kind: classes, or numbers")
        self._loss = LOSSES[names.pop()]
        place = next(self._module.parameters()).device
        self._features = torch.cat([batch.inputs["features"] for batch, _ in read]).to(place)
        self._targets = torch.cat([batch.targets for batch, _ in read if batch.targets is not None]).to(place)

    def _tensors(self, vectors: NDArray[np.float32]) -> dict[str, Tensor]:
        """[devices, numbers] as each parameter's [devices, …]."""
        layout, place = self.task.layout, self._features.device
        return {
            name: torch.from_numpy(vectors[:, layout.spans[name]].reshape(-1, *shape)).to(place)
            for name, shape in layout.parts
        }

    def _vectors(self, parameters: dict[str, Tensor]) -> NDArray[np.float32]:
        named = [parameters[name].flatten(1) for name in self.task.layout.names]
        found: NDArray[np.float32] = torch.cat(named, 1).cpu().numpy()
        return found
