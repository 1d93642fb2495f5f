"""Canaries are more records in a draw: real rows are drawn, divided and told of as if there were none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tg_workbench.datasets import Dataset
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest
from tg_workbench.settings import Settings
from tg_workbench.training.admission import _check_canaries
from tg_workbench.training.canaries import Canaries
from tg_workbench.training.plan import choose_plan
from tg_workbench.training.rows import DatasetRows
from tg_workbench.training.specs import ClientSpec, DPSpec
from tg_workbench.training.trainers import trainer_spec

CONFIG = {"audit_canaries": 30, "audit_seed": "ab" * 32}


def dataset(**changes: Any) -> Dataset:
    header = {"features": {"dtype": "F32", "shape": [50, 4]}, "targets": {"dtype": "I64", "shape": [50]}}
    values: dict[str, Any] = {
        "id": "ds-1",
        "owner_id": "me",
        "tenant_id": "us",
        "name": "people",
        "privacy": "protected",
        "format": "safetensors",
        "size": 50,
        "blob": "0" * 64,
        "population": "ds-1",
        "delta": 1e-5,
        "epsilon_cap": 10.0,
        "tensors": json.dumps(header),
    }
    return Dataset(**{**values, **changes})


def trainer(model_ref: str = "mlp") -> Trainer:
    shape = Architecture((4,), 2) if model_ref == "mlp" else None
    return Trainer(TrainerSpec(model_ref, shape, None, OptimizerSpec(), None, None, None, Path()))


def made(one: Trainer, of: Dataset) -> Canaries:
    canaries = Canaries.of(CONFIG, of, one)
    assert canaries is not None
    return canaries


def test_a_client_without_canaries_has_none() -> None:
    assert Canaries.of({"audit_canaries": 0, "audit_seed": None}, dataset(), trainer()) is None
    assert Canaries.of({}, dataset(), trainer()) is None, "a client of an earlier version"


def test_a_draw_holds_its_rows_as_ever_and_then_its_learned_canaries() -> None:
    rows = DatasetRows({"features": np.random.rand(50, 4).astype("f4"), "targets": np.arange(50) % 2}, 50)
    canaries = made(trainer(), dataset())
    assert canaries.learned.tolist() == np.flatnonzero(canaries.present).tolist()
    batch, extra = canaries.join(rows, [3, 49, 50, 52])
    assert extra == 2
    for name, column in rows.columns.items():
        np.testing.assert_array_equal(batch[name][:2], column[[3, 49]])
        np.testing.assert_array_equal(batch[name][2:], canaries.rows.columns[name][canaries.learned[[0, 2]]])
    assert [len(canaries.join(rows, drawn)[0]["targets"]) for drawn in ([], [1], [51])] == [0, 1, 1]


@pytest.mark.parametrize("width", [5, 40])
def test_text_of_any_length_stands_beside_them(width: int) -> None:
    ids = np.ones((50, width), np.int64)
    rows = DatasetRows({"input_ids": ids, "attention_mask": ids, "labels": ids}, 50)
    one = trainer("tiny-llama")
    canaries = made(one, dataset(format="texts", tensors=None))
    batch, extra = canaries.join(rows, [0, 50])
    assert extra == 1
    assert {column.shape for column in batch.values()} == {(2, max(width, 16))}
    assert batch["attention_mask"].sum(axis=1).tolist() == [width, 16]
    assert one.forward_backward(batch, canaries=1).num_examples == 1


def test_canaries_that_fill_the_memory_are_refused() -> None:
    header = {"features": {"dtype": "U8", "shape": [9000, 3, 224, 224]}}
    large = dataset(size=9000, tensors=json.dumps(header))
    _check_canaries(ClientSpec("cnn", dataset_id="ds-1", audit_canaries=200), large)
    with pytest.raises(InvalidRequest, match="do not fit in memory"):
        _check_canaries(ClientSpec("cnn", dataset_id="ds-1", audit_canaries=300), large)


def test_what_rows_are_charged_and_divided_by_knows_no_canaries() -> None:
    specs = [
        ClientSpec("mlp", dataset_id="ds-1", batch_size=10, dp=DPSpec(noise_multiplier=1.0), audit_canaries=n)
        for n in (0, 40)
    ]
    plans = [choose_plan(spec, dataset()) for spec in specs]
    assert plans[0] == plans[1]
    settings = Settings.from_environment({})
    without, beside = (
        trainer_spec(spec, plan, dataset(), settings) for spec, plan in zip(specs, plans, strict=True)
    )
    assert without == beside
    assert beside.expected_batch_size == 10.0


@pytest.mark.parametrize("drawn", [[0, 1, 50, 51], [0, 1]], ids=["with canaries", "without"])
def test_pixels_stay_pixels_beside_canaries(drawn: list[int]) -> None:
    header = {"features": {"dtype": "U8", "shape": [50, 2, 2]}, "targets": {"dtype": "I64", "shape": [50]}}
    of = dataset(tensors=json.dumps(header))
    one = Trainer(
        TrainerSpec("mlp", Architecture((2, 2), 2), None, OptimizerSpec(), None, None, None, Path())
    )
    columns: dict[str, Any] = {
        "features": np.full((50, 2, 2), 200, np.uint8),
        "targets": np.zeros(50, np.int64),
    }
    batch, _ = made(one, of).join(DatasetRows(columns, 50), drawn)
    assert batch["features"].dtype == np.uint8
    assert (batch["features"][:2] == 200).all()
