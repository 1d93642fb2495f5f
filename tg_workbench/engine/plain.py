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


def plain_sum(
    parameters: Mapping[str, nn.Parameter], parts: Iterable[Tensor]
) -> tuple[PlainSum, Tensor, float]:
    """The gradient of all losses of all parts, the losses, on the CPU, and the length of their mean gradient.

    Raises InvalidBatch.
    """
    learning = list(parameters.values())
    total: list[Tensor] = []
    losses = []
    for values in parts:
        losses.append(values.detach().cpu())
        grads = torch.autograd.grad(values.sum(), learning, allow_unused=True, materialize_grads=True)
        if total:
            torch._foreach_add_(total, list(grads))
        else:
            total = _owned(grads)
    found = torch.cat(losses) if losses else torch.zeros(0)
    total = total or [torch.zeros_like(parameter) for parameter in learning]
    length = _length(total)
    if not _all_finite([found], float(found.sum())) or not _all_finite(total, length):
        raise InvalidBatch(
            "the loss or its gradient is not finite: lower the learning rate or scale the features"
        )
    summed = PlainSum(dict(zip(parameters, total, strict=True)), len(found))
    return summed, found, length / max(1, len(found))


def _owned(grads: tuple[Tensor, ...]) -> list[Tensor]:
    """The same numbers, each in a place of its own: autograd may give one tensor under two names."""
    places: set[int] = set()
    owned = []
    for grad in grads:
        is_alone = grad.is_contiguous() and grad.untyped_storage().data_ptr() not in places
        owned.append(grad if is_alone else grad.clone(memory_format=torch.contiguous_format))
        places.add(owned[-1].untyped_storage().data_ptr())
    return owned


def _length(tensors: list[Tensor]) -> float:
    """The length of all of them together."""
    lengths = torch._foreach_norm(tensors)
    return float(torch.linalg.vector_norm(torch.stack(lengths).double())) if tensors else 0.0


def _all_finite(tensors: list[Tensor], total: float) -> bool:
    """What has a finite sum or length has finite parts; where that overflows every number is looked at."""
    return math.isfinite(total) or all(bool(tensor.isfinite().all()) for tensor in tensors)
