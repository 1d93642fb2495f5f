"""States: what a trainer learned, as named tensors and JSON, checked whole before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tg_workbench.engine.optimizers import state_shapes
from tg_workbench.engine.specs import Architecture, LoraSpec
from tg_workbench.errors import CheckpointMismatch

MODEL, _OPTIMIZER = "model/", "optimizer/"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked state, ready to be taken over."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]


def identity(
    model_ref: str, architecture: Architecture | None, lora: LoraSpec | None, optimizer: str
) -> dict[str, Any]:
    """What must be the same for a state to fit, as JSON."""
    return {
        "model_ref": model_ref,
        "architecture": architecture.as_json() if architecture else None,
        "lora": _json(asdict(lora)) if lora else None,
        "optimizer": optimizer,
    }


def collect(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer | None,
    about: dict[str, Any],
    step: int,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Copies on the CPU of everything that learns, and what it belongs to."""
    tensors = {MODEL + name: _copy(parameter) for name, parameter in parameters.items()}
    for name, parameter in parameters.items() if optimizer else ():
        assert optimizer is not None  # noqa: S101  (the loop is empty without one)
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{key}/{name}"] = _copy(value)
    return tensors, {"format": FORMAT, "step": step, "has_optimizer": optimizer is not None, **about}


def check(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    about: dict[str, Any],
) -> Plan:
    """The plan of taking this state over; CheckpointMismatch where a name or a shape does not fit."""
    step = _check_metadata(metadata, about)
    learned = {n.removeprefix(MODEL): t for n, t in tensors.items() if n.startswith(MODEL)}
    if learned.keys() != parameters.keys():
        raise CheckpointMismatch("the checkpoint holds other parameters than this model has")
    for name, tensor in learned.items():
        _check_like(name, tensor, parameters[name])
    kept: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        if full_name.startswith(MODEL):
            continue
        key, _, name = full_name.removeprefix(_OPTIMIZER).partition("/")
        if not full_name.startswith(_OPTIMIZER) or name not in parameters:
            raise CheckpointMismatch("the checkpoint holds tensors that belong to no parameter")
        _check_optimizer_tensor(key, tensor, state_shapes(optimizer, parameters[name]))
        kept.setdefault(name, {})[key] = tensor
    _check_optimizer_whole(kept, parameters, optimizer)
    return Plan(step, learned, kept)


def apply(plan: Plan, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Take a checked state over. Without optimizer tensors the optimizer starts afresh."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(plan.parameters[name])
    optimizer.state.clear()
    for name, values in plan.optimizer.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            key: tensor.to(parameter.device, copy=True) for key, tensor in values.items()
        }


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _check_metadata(metadata: Mapping[str, Any], about: dict[str, Any]) -> int:
    if metadata.get("format") != FORMAT:
        raise CheckpointMismatch("the checkpoint has a format this version does not read")
    step = metadata.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise CheckpointMismatch("the checkpoint does not say at which step it was made")
    for key, ours in about.items():
        if metadata.get(key) != ours:
            raise CheckpointMismatch(f"the checkpoint was made with another {key} than this client has")
    return step


def _check_like(name: str, tensor: Tensor, parameter: Tensor) -> None:
    if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
        raise CheckpointMismatch(f"{name} has another shape or type in the checkpoint than in this model")


def _check_optimizer_tensor(key: str, tensor: Tensor, shapes: Mapping[str, torch.Size]) -> None:
    if key not in shapes:
        raise CheckpointMismatch("the checkpoint holds optimizer numbers this optimizer does not have")
    if tensor.shape != shapes[key] or tensor.dtype != torch.float32:
        raise CheckpointMismatch(f"the optimizer's {key} in the checkpoint has another shape or type")


def _check_optimizer_whole(
    kept: Mapping[str, dict[str, Tensor]],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Half an optimizer would make a step go wrong later: it is there for every parameter, or not at all."""
    if not kept:
        return
    for name, parameter in parameters.items():
        if kept.get(name, {}).keys() != state_shapes(optimizer, parameter).keys():
            raise CheckpointMismatch("the checkpoint holds only a part of the optimizer")


def _json(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists: what a trip through JSON makes of them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
