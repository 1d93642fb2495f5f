"""Rank-r adapters beside frozen linear layers: attached, merged, and saved alone (Hu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tg_workbench.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """How large the adapters are and where they sit.

    `target_modules` are last names of linear layers (`q_proj`) or whole paths; `all-linear` means every
    one but the output layer of a language model.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    bias: Literal["none", "all", "lora_only"] = "none"

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0.0 <= self.dropout < 1.0:
            raise InvalidRequest("lora_config needs rank ≥ 1, alpha > 0 and dropout from 0 to below 1")
        if self.bias not in ("none", "all", "lora_only"):
            raise InvalidRequest("lora_config.bias must be none, all or lora_only")


class LoraLinear(nn.Module):
    """A frozen linear layer plus `alpha / rank · B · A`, of which only A and B learn."""

    def __init__(self, base: nn.Linear, spec: LoraSpec) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, spec.rank, bias=False)
        self.lora_B = nn.Linear(spec.rank, base.out_features, bias=False)
        self.scale = spec.alpha / spec.rank
        self.dropout = spec.dropout
        nn.init.kaiming_uniform_(self.lora_A.weight, a=5**0.5)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The base layer's answer and the adapter's correction."""
        adapted = F.dropout(x, self.dropout, self.training) if self.dropout else x
        correction: Tensor = self.lora_B(self.lora_A(adapted))
        return torch.add(self.base_layer(x), correction, alpha=self.scale)


def attach(model: nn.Module, spec: LoraSpec) -> None:
    """Freeze `model` and put an adapter beside every target layer, in place."""
    targets = [name for name, module in model.named_modules() if _is_target(name, module, spec)]
    if not targets:
        linear = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
        raise InvalidRequest(
            "lora_config.target_modules names no linear layer of this model; "
            f"use some of {', '.join(linear)}, or all-linear"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(spec.bias == "all" and name.rpartition(".")[2] == "bias")
    for name in targets:
        parent, _, last = name.rpartition(".")
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)  # noqa: S101  (_is_target chose only these)
        if spec.bias == "lora_only" and base.bias is not None:
            base.bias.requires_grad_(True)
        setattr(model.get_submodule(parent), last, LoraLinear(base, spec))


def merge(model: nn.Module) -> None:
    """Fold every adapter into its base layer and take it away, in place. The answers stay the same."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            with torch.no_grad():
                module.base_layer.weight += module.scale * module.lora_B.weight @ module.lora_A.weight
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.base_layer)


def adapters(model: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, under the names that peft gives them in `adapter_model.safetensors`."""
    return {
        f"base_model.model.{name}": parameter.detach()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[0].endswith(("lora_A", "lora_B"))
    }


def _is_target(name: str, module: nn.Module, spec: LoraSpec) -> bool:
    if not isinstance(module, nn.Linear):
        return False
    last = name.rpartition(".")[2]
    if "all-linear" in spec.target_modules:
        return last != "lm_head"
    return last in spec.target_modules or name in spec.target_modules
