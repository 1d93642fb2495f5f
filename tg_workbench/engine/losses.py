"""Named losses, one value per example, so that each example can be clipped.

A value depends on its own example only: a mean over the tokens of a batch would couple the examples and break
every bound. Add one by writing a function under `@loss`; the suite then checks it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {}
"""Every loss by its name."""

IGNORED = -100
"""The label of a token that is not learned."""


def loss(function: Loss) -> Loss:
    """Register a loss under its own name."""
    LOSSES[function.__name__] = function
    return function


@loss
def cross_entropy(predicted: Tensor, target: Tensor) -> Tensor:
    """Of classes [examples, classes], or the mean over own tokens of [examples, tokens, vocabulary]."""
    if target.dim() == 1:
        return F.cross_entropy(predicted, target, reduction="none")
    words, right = predicted.flatten(0, 1), target.flatten()  # one row per token is quicker than one column
    each = F.cross_entropy(words, right, reduction="none", ignore_index=IGNORED).view_as(target)
    learned = (target != IGNORED).sum(1).clamp(min=1)
    return each.sum(1) / learned


@loss
def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each example."""
    return F.mse_loss(predicted, target, reduction="none").flatten(1).mean(1)


@loss
def bce(predicted: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of logits against probabilities, the mean over each example's outputs."""
    return F.binary_cross_entropy_with_logits(predicted, target, reduction="none").flatten(1).mean(1)
