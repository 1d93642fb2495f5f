"""Named optimizers: what a gradient, private or not, does to the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tg_workbench.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """Which optimizer, and its numbers. `betas` and `eps` mean nothing to `sgd`."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


def _adamw(parameters: list[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=spec.learning_rate,
        betas=spec.betas,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def _adam(parameters: list[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        parameters,
        lr=spec.learning_rate,
        betas=spec.betas,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def _sgd(parameters: list[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], OptimizerSpec], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
}
"""Every optimizer by its name."""


def make_optimizer(parameters: Iterable[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimizer that `spec` names, over `parameters`."""
    if spec.name not in OPTIMIZERS:
        raise InvalidRequest(f"unknown optimizer; use one of {', '.join(OPTIMIZERS)}")
    try:
        return OPTIMIZERS[spec.name](list(parameters), spec)
    except ValueError as refusal:
        raise InvalidRequest(f"the optimizer's numbers cannot be used: {refusal}") from refusal
