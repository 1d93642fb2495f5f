"""Rank-r adapters beside frozen linear layers: attached, and named as peft names them (Hu et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tg_workbench.engine.specs import LoraSpec
from tg_workbench.errors import InvalidRequest


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
