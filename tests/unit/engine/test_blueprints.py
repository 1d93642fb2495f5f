from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.engine.test_text_classifiers import LORA
from tests.unit.engine.test_text_classifiers import SPEC as CLASSIFIER
from tests.unit.engine.test_trainer import SPEC, TEXT_SPEC
from tg_workbench.engine.architectures import ROW_MODELS
from tg_workbench.engine.blueprints import Blueprint, weights_of
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.specs import Architecture, TrainerSpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import CheckpointMismatch

TEXTS = ["abc", "zzzzz"]
IMAGE = Architecture((1, 8, 8), 3, (8, 16))
KINDS = {
    **{name: dataclasses.replace(SPEC, model_ref=name, architecture=IMAGE) for name in ROW_MODELS},
    "adapters": dataclasses.replace(TEXT_SPEC, lora=LORA),
    "whole language model": dataclasses.replace(TEXT_SPEC, lora=None),
    "frozen classifier": CLASSIFIER,
    "adapted classifier": dataclasses.replace(CLASSIFIER, lora=LORA),
}


def learned(spec: TrainerSpec) -> tuple[Trainer, dict[str, Any]]:
    """A trainer after two steps, and a batch."""
    trainer = Trainer(dataclasses.replace(spec, seed=9, average_after=0))
    if trainer.reads_text:
        batch = {**trainer.tokenize(TEXTS, max_length=8), "targets": np.asarray([0, 1])}
    else:
        batch = {
            "features": np.random.default_rng(0).normal(size=(2, 1, 8, 8)),
            "targets": np.asarray([0, 2]),
        }
    for _ in range(2):
        trainer.forward_backward(batch)
        trainer.optim_step()
    return trainer, batch


@pytest.mark.parametrize("kind", KINDS)
def test_network_built_again_answers_as_the_trainers(kind: str) -> None:
    trainer, batch = learned(KINDS[kind])
    drawing = json.loads(json.dumps(Blueprint.of(trainer).as_json()))
    network = Blueprint.from_json(drawing).opened(weights_of(trainer), Path())
    assert Blueprint.from_json(drawing) == Blueprint.of(trainer)
    inputs: dict[str, torch.Tensor] = {
        name: torch.tensor(batch[name]) for name in ("input_ids", "attention_mask") if name in batch
    }
    if isinstance(network, RowModel):
        inputs = {"features": torch.tensor(batch["features"], dtype=torch.float32)}
    with torch.inference_mode(), trainer.looking() as ours:
        torch.testing.assert_close(network.answer(inputs), ours.answer(inputs))
    assert not network.module.training
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


def test_drawing_tells_the_shape_and_the_size() -> None:
    drawing = Blueprint.of(Trainer(SPEC)).as_json()
    assert drawing == {
        "model_ref": "mlp",
        "input_shape": [4],
        "output_classes": 3,
        "hidden_sizes": [16],
        "parameters": 4 * 16 + 16 + 16 * 3 + 3,
        "lora": None,
    }


def test_weights_of_another_network_are_refused() -> None:
    trainer = Trainer(SPEC)
    drawing = Blueprint.of(trainer)
    with pytest.raises(CheckpointMismatch, match="safetensors"):
        drawing.opened(b"no weights", Path())
    deeper = dataclasses.replace(SPEC, architecture=Architecture((4,), 3, (16, 16)))
    with pytest.raises(CheckpointMismatch, match="other parameters"):
        drawing.opened(weights_of(Trainer(deeper)), Path())
    wider = dataclasses.replace(SPEC, architecture=Architecture((4,), 3, (17,)))
    with pytest.raises(CheckpointMismatch, match="another shape"):
        drawing.opened(weights_of(Trainer(wider)), Path())
