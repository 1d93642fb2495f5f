from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tg_workbench.engine.architectures import build
from tg_workbench.engine.lora import adapters, attach
from tg_workbench.engine.specs import LoraSpec
from tg_workbench.errors import InvalidRequest

SPEC = LoraSpec(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"), dropout=0.0)


def tiny() -> nn.Module:
    return build("tiny-llama", None, Path()).module


def said(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.arange(12).view(2, 6)).logits
        return logits


def test_fresh_adapters_change_no_answer_and_only_they_learn() -> None:
    model = tiny()
    before = said(model)
    attach(model, SPEC)
    torch.testing.assert_close(said(model), before)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learning) == 2 * 2 * 2
    assert all(".lora_" in name for name in learning)


def test_adapters_are_named_as_those_of_peft() -> None:
    model = tiny()
    attach(model, SPEC)
    names = sorted(adapters(model))
    assert len(names) == 8
    # As `get_peft_model_state_dict` of peft 0.21.2 names the same adapters.
    assert names[:2] == [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
    ]


def test_biases_learn_where_asked() -> None:
    def learning(bias: Any) -> set[str]:
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        attach(model, LoraSpec(rank=2, target_modules=("0",), bias=bias))
        return {name for name, p in model.named_parameters() if p.requires_grad and name.endswith("bias")}

    assert learning("none") == set()
    assert learning("lora_only") == {"0.base_layer.bias"}
    assert learning("all") == {"0.base_layer.bias", "1.bias"}


def test_targets_that_are_nowhere_are_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest, match="q_proj"):
        attach(tiny(), LoraSpec(target_modules=("nowhere",)))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"bias": "some"}])
def test_adapters_nobody_can_make_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        LoraSpec(**wrong)
