"""PlainSum: the sum of gradients without privacy, and nothing promised about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tg_workbench.errors import InvalidBatch


@dataclass(frozen=True, slots=True)
class PlainSum:
    """The gradients of `count` examples, added up."""

    tensors: dict[str, Tensor]
    count: int

    def __add__(self, other: PlainSum) -> PlainSum:
        """The sum over both sets of examples. The tensors of this one are used up."""
        for name, tensor in self.tensors.items():
            tensor += other.tensors[name]
        return PlainSum(self.tensors, self.count + other.count)

    @property
    def mean_norm(self) -> float:
        """The length of the mean gradient."""
        squares = sum(float(tensor.double().square().sum()) for tensor in self.tensors.values())
        return math.sqrt(squares) / max(1, self.count)


def plain_sum(parameters: Mapping[str, nn.Parameter], parts: Iterable[Tensor]) -> tuple[PlainSum, Tensor]:
    """The gradient of all losses of all parts, and the losses, on the CPU. Raises InvalidBatch."""
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    losses = [torch.zeros(0)]
    for values in parts:
        losses.append(values.detach().cpu())
        grads = torch.autograd.grad(values.sum(), list(parameters.values()), allow_unused=True)
        for name, grad in zip(total, grads, strict=True):
            if grad is not None:
                total[name] += grad
    found = torch.cat(losses)
    if not bool(found.isfinite().all()) or not all(bool(t.isfinite().all()) for t in total.values()):
        raise InvalidBatch(
            "the loss or its gradient is not finite: lower the learning rate or scale the features"
        )
    return PlainSum(total, len(found)), found
