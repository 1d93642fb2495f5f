"""Objective: what a network says of some examples, and what each of them costs it."""

from __future__ import annotations

import torch
from torch import Tensor

from tg_workbench.engine.batches import Batch
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.networks import LanguageModel, Network, RowModel
from tg_workbench.errors import InvalidBatch, InvalidRequest


class Objective:
    """The losses of one network, each of its own example alone, times the weight of its class if it has one.

    Raises InvalidRequest for weights that are not one for each of the network's classes.
    """

    def __init__(self, network: Network, precision: str, class_weights: tuple[float, ...] | None) -> None:
        self._network = network
        self._precision = precision
        self._scale = network.target_scale if isinstance(network, RowModel) else None
        self._weights: Tensor | None = None
        if class_weights is not None:
            classes = 0 if isinstance(network, LanguageModel) else network.output_size
            if classes < 2 or classes != len(class_weights):
                raise InvalidRequest("class_weights are one number for each class that a model tells apart")
            self._weights = torch.tensor(class_weights)

    def answer(self, part: Batch) -> Tensor:
        """What the network says, on its device."""
        return self._network.answer(part.inputs, self._precision)

    def targets(self, part: Batch, device: torch.device) -> Tensor:
        """What it should say, on the device of what it says."""
        assert part.targets is not None  # noqa: S101  (the reader asked for them)
        return part.targets.to(device)

    def losses(self, part: Batch, loss_name: str) -> Tensor:
        """One loss for each example."""
        said = self.answer(part)
        return self.weighed(said, self.targets(part, said.device), loss_name)

    def weighed(self, said: Tensor, targets: Tensor, loss_name: str) -> Tensor:
        """What was said, as one loss for each example. Raises InvalidBatch.

        Numbers cost by how far they are off on the scale on which they are learned.
        """
        if self._scale is not None:
            if loss_name != "mse":
                raise InvalidBatch("this model learns numbers on a scale: send targets that are numbers")
            said, targets = self._scale.scaled(said), self._scale.scaled(targets)
        losses = LOSSES[loss_name](said, targets)
        if self._weights is None:
            return losses
        if loss_name != "cross_entropy":
            raise InvalidBatch("class_weights are for classes: send targets that are whole class numbers")
        return losses * self._weights.to(losses.device)[targets]
