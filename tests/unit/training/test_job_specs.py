"""A job's wishes are checked one by one, and survive being stored."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.optimizers import OPTIMIZERS
from tg_workbench.engine.specs import LoraSpec
from tg_workbench.errors import InvalidField
from tg_workbench.training import DPSpec, EarlyStopping, JobSpec, ScheduleSpec, job_specs

FULL = JobSpec(
    dataset_id="ds-1",
    model_type="mlp",
    name="ours",
    epochs=3,
    optimizer="sgd",
    optimizer_options={"momentum": 0.5, "weight_decay": 0.0},
    schedule=ScheduleSpec("step", warmup_steps=3, step_size=10),
    class_weights=(1.0, 2.0),
    early_stopping=EarlyStopping(patience=2, monitor="val_f1"),
    checkpoint_every_steps=10,
    timeout_seconds=60,
    priority=-3,
    dp=DPSpec(target_epsilon=2.0),
    hidden_sizes=(8, 4),
)


@pytest.mark.parametrize("number", range(3))
def test_what_was_asked_comes_back_from_the_database(number: int) -> None:
    spec = (FULL, JobSpec("ds", "mlp"), JobSpec("ds", "tiny-llama", lora=LoraSpec(rank=2)))[number]
    assert JobSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("dataset_id", {"dataset_id": ""}),
    ("model_type", {"model_type": 7}),
    ("name", {"name": "x" * 201}),
    ("epochs", {"epochs": 0}),
    ("epochs", {"epochs": True}),
    ("epochs", {"epochs": 2.5}),
    ("batch_size", {"batch_size": 0}),
    ("learning_rate", {"learning_rate": 0.0}),
    ("learning_rate", {"learning_rate": 1.5}),
    ("learning_rate", {"learning_rate": math.nan}),
    ("optimizer", {"optimizer": "adamax"}),
    ("optimizer", {"optimizer_options": {"nesterov": True}}),
    ("optimizer.weight_decay", {"optimizer_options": {"weight_decay": -1}}),
    ("optimizer.betas", {"optimizer_options": {"betas": [0.9]}}),
    ("optimizer.betas", {"optimizer_options": {"betas": 0.9}}),
    ("optimizer", {"optimizer": "adam", "optimizer_options": {"momentum": 0.9}}),
    ("loss", {"loss": "hinge"}),
    ("validation_split", {"validation_split": 1.0}),
    ("validation_split", {"validation_split": -0.1}),
    ("early_stopping.monitor", {"validation_split": 0, "early_stopping": EarlyStopping()}),
    ("class_weights", {"class_weights": "even"}),
    ("class_weights", {"class_weights": (1.0,)}),
    ("class_weights", {"class_weights": (0.0, 0.0)}),
    ("class_weights", {"class_weights": (1.0, math.inf)}),
    ("seed", {"seed": -1}),
    ("checkpoint_every_steps", {"checkpoint_every_steps": 0}),
    ("timeout_seconds", {"timeout_seconds": 0}),
    ("gpu_count", {"gpu_count": -1}),
    ("priority", {"priority": 11}),
    ("dp.noise_multiplier", {"dp": DPSpec(noise_multiplier=0.0)}),
    ("dp.max_grad_norm", {"dp": DPSpec(max_grad_norm=-1.0)}),
    ("dp.target_epsilon", {"dp": DPSpec(target_epsilon=math.inf)}),
    ("dp.target_delta", {"dp": DPSpec(target_delta=1.0)}),
    ("hidden_sizes", {"hidden_sizes": (0,)}),
    ("hidden_sizes", {"hidden_sizes": (1,) * 17}),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_cannot_be_is_refused_by_the_name_of_the_field(number: int) -> None:
    field, asked = WRONG[number]
    with pytest.raises(InvalidField) as refusal:
        JobSpec(**{"dataset_id": "ds", "model_type": "mlp", **asked})
    assert refusal.value.problems[0]["where"] == field


def test_a_learning_rate_is_refused_in_the_words_of_the_document() -> None:
    with pytest.raises(InvalidField, match="learning_rate: Must be between 0 and 1"):
        JobSpec("ds", "mlp", learning_rate=5)


def test_parts_name_their_field_too() -> None:
    for made, field in (
        (lambda: EarlyStopping(patience=0), "early_stopping.patience"),
        (lambda: EarlyStopping(monitor="f1"), "early_stopping.monitor"),
        (lambda: ScheduleSpec("exponential"), "schedule.name"),
        (lambda: ScheduleSpec("step"), "schedule.step_size"),
        (lambda: ScheduleSpec("cosine", floor=2.0), "schedule.floor"),
    ):
        with pytest.raises(InvalidField) as refusal:
            made()
        assert refusal.value.problems[0]["where"] == field


def test_its_lists_are_those_of_the_engine() -> None:
    assert set(job_specs.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(job_specs.LOSSES) == set(LOSSES)
