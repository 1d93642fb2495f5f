"""Named optimizers: what a gradient, private or not, does to the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from tg_workbench.engine.specs import OptimizerSpec
from tg_workbench.errors import InvalidRequest


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
    return torch.optim.SGD(
        parameters,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def _adafactor(parameters: list[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], OptimizerSpec], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "adafactor": _adafactor,
}
"""Every optimizer by its name."""


def state_shapes(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, torch.Size]:
    """What an optimizer remembers of a parameter once it has stepped: each tensor's name and shape."""
    whole, number = parameter.shape, torch.Size(())
    if isinstance(optimizer, torch.optim.Adam):  # AdamW is one too
        return {"step": number, "exp_avg": whole, "exp_avg_sq": whole}
    if isinstance(optimizer, torch.optim.Adafactor) and parameter.dim() > 1:
        columns = torch.Size((*whole[:-2], 1, whole[-1]))
        return {"step": number, "row_var": torch.Size((*whole[:-1], 1)), "col_var": columns}
    if isinstance(optimizer, torch.optim.Adafactor):
        return {"step": number, "variance": whole}
    if isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["momentum"] > 0.0:
        return {"momentum_buffer": whole}
    return {}


def make_optimizer(parameters: Iterable[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimizer that `spec` names, over `parameters`."""
    if spec.name not in OPTIMIZERS:
        raise InvalidRequest(f"unknown optimizer; use one of {', '.join(OPTIMIZERS)}")
    try:
        return OPTIMIZERS[spec.name](list(parameters), spec)
    except ValueError as refusal:
        raise InvalidRequest(f"the optimizer's numbers cannot be used: {refusal}") from refusal
