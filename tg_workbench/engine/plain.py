"""PlainSum: the sum of gradients without privacy, and nothing promised about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tg_workbench.errors import InvalidBatch

NOT_FINITE = "the loss or its gradient is not finite: lower the learning rate or scale the features"


@dataclass(frozen=True, slots=True)
class PlainSum:
    """The gradients of `count` examples, added up and divided by `divisor`.

    **Why divided.** On the way back that costs nothing, and a step whose examples come all at once divides by
    just that number: it need not go through the gradient again.
    """

    tensors: dict[str, Tensor]
    count: int
    divisor: float

    def __add__(self, other: PlainSum) -> PlainSum:
        """The sum over both sets of examples. The tensors of this one are used up."""
        mine, others = list(self.tensors.values()), list(other.tensors.values())
        torch._foreach_add_(mine, others, alpha=other.divisor / self.divisor)
        return PlainSum(self.tensors, self.count + other.count, self.divisor)

    def over(self, divisor: float) -> dict[str, Tensor]:
        """The sum divided by `divisor`. The tensors of this one are used up."""
        if divisor != self.divisor:
            torch._foreach_mul_(list(self.tensors.values()), self.divisor / divisor)
        return self.tensors


def plain_sum(
    parameters: Mapping[str, nn.Parameter], parts: Iterable[Tensor], divisor: float, *, check: bool = True
) -> tuple[PlainSum, list[float], float]:
    """The gradient of all losses of all parts, the losses, and the length of their mean gradient.

    Raises InvalidBatch. Without `check` the length is NaN, and only the losses are known to be finite.
    """
    learning = list(parameters.values())
    total: list[Tensor] = []
    losses: list[float] = []
    for values in parts:
        losses += values.tolist()
        each = torch.full_like(values, 1.0 / divisor)
        grads = torch.autograd.grad(values, learning, each, allow_unused=True, materialize_grads=True)
        if total:
            torch._foreach_add_(total, list(grads))
        else:
            total = _owned(grads)
    total = total or [torch.zeros_like(parameter) for parameter in learning]
    length = _length(total) if check else math.nan
    if not math.isfinite(sum(losses)) or (check and not _all_finite(total, length)):
        raise InvalidBatch(NOT_FINITE)
    summed = PlainSum(dict(zip(parameters, total, strict=True)), len(losses), divisor)
    return summed, losses, length * divisor / max(1, len(losses))


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether every number in them is finite."""
    return _all_finite(tensors, _length(tensors))


def _owned(grads: tuple[Tensor, ...]) -> list[Tensor]:
    """The same numbers, each in a place of its own: autograd may give one tensor under two names."""
    places: set[int] = set()
    owned = []
    for grad in grads:
        place = grad.untyped_storage().data_ptr()
        is_alone = grad.is_contiguous() and place not in places
        owned.append(grad if is_alone else grad.clone(memory_format=torch.contiguous_format))
        places.add(place)
    return owned


def _length(tensors: list[Tensor]) -> float:
    """The length of all of them together."""
    return math.hypot(*torch.stack(torch._foreach_norm(tensors)).tolist()) if tensors else 0.0


def _all_finite(tensors: list[Tensor], length: float) -> bool:
    """What has a finite length has finite parts; where that overflows every number is looked at."""
    return math.isfinite(length) or all(bool(tensor.isfinite().all()) for tensor in tensors)
