from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.engine.test_trainer import SPEC, TEXT_SPEC, make, rows
from tg_workbench.engine.trainer import LoraSpec, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import CheckpointMismatch

STEADY = dataclasses.replace(TEXT_SPEC, lora=LoraSpec(rank=4, target_modules=("all-linear",), dropout=0.0))
FORGETFUL = dataclasses.replace(TEXT_SPEC, lora=LoraSpec(rank=4, target_modules=("all-linear",), dropout=0.3))
"""Adapters that drop three of ten inputs: others in each batch, and the same ones whoever goes on."""

State = tuple[dict[str, Tensor], dict[str, Any]]


def trained(spec: TrainerSpec = SPEC) -> Trainer:
    trainer = Trainer(dataclasses.replace(spec, privacy=PrivacySpec(0.0, 1.0)))
    for _ in range(3):
        trainer.forward_backward(batch_of(trainer))
        trainer.optim_step()
    return trainer


def batch_of(trainer: Trainer) -> dict[str, Any]:
    return trainer.tokenize(["ab", "cde"], max_length=8) if trainer.is_language_model else rows()


@pytest.mark.parametrize("spec", [SPEC, STEADY, FORGETFUL], ids=["mlp", "lora", "dropout"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adafactor"])
def test_trainer_goes_on_where_its_state_was_taken(spec: TrainerSpec, optimizer: str) -> None:
    spec = dataclasses.replace(
        spec, optimizer=OptimizerSpec(optimizer, learning_rate=0.05), privacy=PrivacySpec(0.0, 1.0)
    )
    first, second = trained(spec), Trainer(spec)
    tensors, metadata = first.state()
    second.load_state(tensors, json.loads(json.dumps(metadata)))
    for trainer in (first, second):
        trainer.forward_backward(batch_of(trainer))
        trainer.optim_step()
    assert second.step == 4
    for name, tensor in first.state()[0].items():
        torch.testing.assert_close(second.state()[0][name], tensor)


def test_what_is_dropped_depends_on_seed_step_and_batch_alone() -> None:
    learned = trained(FORGETFUL).state(include_optimizer=False)

    def losses(seed: int) -> list[float]:
        torch.rand(3)  # whatever else is drawn in this process
        trainer = Trainer(dataclasses.replace(FORGETFUL, seed=seed, privacy=None, expected_batch_size=None))
        trainer.load_state(*learned)
        told = []
        for _ in range(2):
            told += [trainer.forward_backward(batch_of(trainer)).loss for _ in range(2)]
            trainer.optim_step(learning_rate=0.0)
        return told

    first = losses(1)
    assert losses(1) == first
    assert losses(2) != first
    assert len(set(first)) == 4, "each batch of each step drops others"


def test_state_of_lora_holds_the_adapters_alone() -> None:
    tensors, _ = Trainer(TEXT_SPEC).state(include_optimizer=False)
    assert all(".lora_" in name for name in tensors)


def test_state_without_the_optimizer_starts_it_afresh() -> None:
    tensors, metadata = trained().state(include_optimizer=False)
    assert all(name.startswith("model/") for name in tensors)
    trainer = trained()
    trainer.load_state(tensors, metadata)
    assert not any(name.startswith("optimizer/") for name in trainer.state()[0])


def test_state_is_a_copy() -> None:
    trainer = trained()
    tensors, _ = trainer.state()
    tensors["model/output.bias"].fill_(9.0)
    assert not (trainer.state()[0]["model/output.bias"] == 9.0).any()


def test_loading_forgets_the_gradient_that_waits() -> None:
    trainer = trained()
    state = trainer.state()
    trainer.forward_backward(rows())
    trainer.load_state(*state)
    assert not trainer.pending


def drop(name: str) -> Callable[[State], None]:
    return lambda state: state[0].__delitem__(name)


def put(name: str, tensor: Tensor) -> Callable[[State], None]:
    return lambda state: state[0].update({name: tensor})


def say(**facts: Any) -> Callable[[State], None]:
    return lambda state: state[1].update(facts)


EDITS: dict[str, Callable[[State], None]] = {
    "a parameter is missing": drop("model/output.bias"),
    "a parameter too many": put("model/extra", torch.zeros(1)),
    "a tensor of nobody": put("other", torch.zeros(1)),
    "another shape": put("model/output.bias", torch.zeros(4)),
    "another type": put("model/output.bias", torch.zeros(3, dtype=torch.float64)),
    "half an optimizer": drop("optimizer/exp_avg/output.bias"),
    "another optimizer's numbers": put("optimizer/momentum/output.bias", torch.zeros(3)),
    "an optimizer of another shape": put("optimizer/exp_avg/output.bias", torch.zeros(4)),
    "a damaged step counter": put("optimizer/step/output.bias", torch.zeros(2)),
    "an optimizer for nobody": put("optimizer/step/nobody", torch.tensor(1.0)),
    "another model": say(model_ref="cnn"),
    "another shape of model": say(architecture=None),
    "another optimizer": say(optimizer="sgd"),
    "another format": say(format=99),
    "no step": say(step=None),
    "a step that is a word": say(step="4"),
    "a negative step": say(step=-1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_foreign_or_edited_state_is_refused_and_nothing_changes(edit: str) -> None:
    state, trainer = trained().state(), make()
    before = trainer.state()
    EDITS[edit](state)
    with pytest.raises(CheckpointMismatch):
        trainer.load_state(*state)
    assert trainer.step == 0
    for name, tensor in before[0].items():
        assert torch.equal(trainer.state()[0][name], tensor)
