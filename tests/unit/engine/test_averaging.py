"""The mean of the last steps: what it is, who sees it, and that a checkpoint keeps it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.engine.test_trainer import SPEC, rows
from tg_workbench.engine.trainer import OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import CheckpointMismatch, InvalidRequest

STILL = dataclasses.replace(
    SPEC, optimizer=OptimizerSpec("sgd", 0.5, weight_decay=0.0, momentum=0.9), privacy=PrivacySpec(0.0, 1.0)
)
AVERAGED = dataclasses.replace(STILL, average_after=3)


def stepped(trainer: Trainer, steps: int = 1) -> Trainer:
    for _ in range(steps):
        trainer.forward_backward(rows())
        trainer.optim_step()
    return trainer


def learned(trainer: Trainer) -> dict[str, Tensor]:
    tensors, _ = trainer.state(include_optimizer=False)
    return tensors


def passed_through_json(metadata: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(metadata))
    return told


def test_the_mean_of_the_last_steps_is_what_is_saved() -> None:
    plain, averaged = Trainer(STILL), Trainer(AVERAGED)
    each = []
    for _ in range(6):
        each.append(learned(stepped(plain)))
        stepped(averaged)
    for name, tensor in learned(averaged).items():
        torch.testing.assert_close(tensor, torch.stack([one[name] for one in each[3:]]).mean(0))


def test_before_its_part_begins_the_last_step_is_what_is_saved() -> None:
    plain, averaged = stepped(Trainer(STILL), 3), stepped(Trainer(AVERAGED), 3)
    for name, tensor in learned(averaged).items():
        assert torch.equal(tensor, learned(plain)[name])


def test_evaluate_and_predict_see_the_mean_and_training_goes_on_from_the_last_step() -> None:
    averaged, other, shown = stepped(Trainer(AVERAGED), 6), stepped(Trainer(AVERAGED), 6), Trainer(STILL)
    shown.load_state(*averaged.state(include_optimizer=False))
    assert averaged.evaluate(rows()) == shown.evaluate(rows())
    assert averaged.evaluate(rows()) != stepped(Trainer(STILL), 6).evaluate(rows())
    assert [said["class"] for said in averaged.predict(rows())] == [s["class"] for s in shown.predict(rows())]
    averaged.forward_backward(rows())
    averaged.evaluate(rows())  # looking between the gradient and the step changes neither
    averaged.optim_step()
    for name, tensor in learned(stepped(other)).items():
        assert torch.equal(tensor, learned(averaged)[name])


def test_a_checkpoint_keeps_the_mean_and_what_it_goes_on_from() -> None:
    first, second = stepped(Trainer(AVERAGED), 5), Trainer(AVERAGED)
    tensors, metadata = first.state()
    second.load_state(tensors, passed_through_json(metadata))
    assert second.evaluate(rows()) == first.evaluate(rows())
    stepped(first, 2)
    stepped(second, 2)
    for name, tensor in first.state()[0].items():
        torch.testing.assert_close(second.state()[0][name], tensor)


def test_a_client_that_does_not_average_takes_the_mean_as_its_model() -> None:
    averaged, plain = stepped(Trainer(AVERAGED), 6), Trainer(STILL)
    plain.load_state(*averaged.state())
    for name, tensor in learned(averaged).items():
        assert torch.equal(learned(plain)[name], tensor)


def test_a_longer_run_forgets_the_mean_of_a_shorter_one() -> None:
    later = Trainer(dataclasses.replace(AVERAGED, average_after=20))
    later.load_state(*stepped(Trainer(AVERAGED), 6).state())
    stepped(later)
    assert not any(name.startswith("iterate/") for name in later.state()[0])


def edited(edit: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = stepped(Trainer(AVERAGED), 5).state()
    match edit:
        case "no count":
            del metadata["averaged_steps"]
        case "a count that is a word":
            metadata["averaged_steps"] = "2"
        case "a negative count":
            metadata["averaged_steps"] = -2
        case "a step is missing":
            del tensors["iterate/output.bias"]
        case "a mean is missing":
            del tensors["model/output.bias"]
        case "another shape":
            tensors["iterate/output.bias"] = torch.zeros(4)
        case "a mean of another type":
            tensors["model/output.bias"] = torch.zeros(3, dtype=torch.float64)
    return tensors, metadata


EDITS = (
    *("no count", "a count that is a word", "a negative count", "a step is missing", "a mean is missing"),
    *("another shape", "a mean of another type"),
)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("spec", [AVERAGED, STILL], ids=["averaged", "plain"])
def test_an_edited_mean_is_refused_and_nothing_changes(edit: str, spec: TrainerSpec) -> None:
    trainer = stepped(Trainer(spec), 5)
    before = trainer.state()[0]
    with pytest.raises(CheckpointMismatch):
        trainer.load_state(*edited(edit))
    assert trainer.step == 5
    for name, tensor in before.items():
        assert torch.equal(trainer.state()[0][name], tensor)


def test_a_part_of_a_run_is_counted_from_its_end() -> None:
    assert OptimizerSpec(tail_averaging=0.25).average_after(100) == 75
    assert OptimizerSpec(tail_averaging=1.0).average_after(100) == 0
    assert OptimizerSpec(tail_averaging=0.001).average_after(100) == 99
    assert OptimizerSpec().average_after(None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"tail_averaging": 1.1},
        {"tail_averaging": -0.1},
        {"tail_averaging": float("nan")},
        {"name": "sgd", "momentum": 1.0},
        {"name": "sgd", "momentum": -0.1},
        {"name": "adam", "momentum": 0.9},
    ],
)
def test_constants_nobody_can_use_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        OptimizerSpec(**wrong)


def test_a_part_of_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_steps"):
        OptimizerSpec(tail_averaging=0.5).average_after(None)
