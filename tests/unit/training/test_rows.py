from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.engine.test_text_classifiers import LORA, SPEC
from tests.unit.engine.test_trainer import TEXT_SPEC
from tg_workbench.datasets import Dataset
from tg_workbench.engine.networks import PREPARED
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import InvalidBatch, InvalidRequest
from tg_workbench.storage import Blobs
from tg_workbench.training.rows import DatasetRows

TEXTS = ["aaaa", "zz", "aaaaaaaa"]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def texts(blobs: Blobs, told: Any) -> Dataset:
    """A dataset of texts that was told so."""
    blob = blobs.put(json.dumps(told).encode())
    return Dataset(
        id="ds-1",
        owner_id="alice",
        tenant_id="t",
        name="n",
        privacy="public",
        format="texts",
        size=len(TEXTS),
        blob=blob,
        population="p",
        delta=1e-5,
        epsilon_cap=3.0,
    )


LABELLED = {"texts": TEXTS, "targets": [0, 1, 0]}


def test_texts_with_targets_are_learned_by_a_classifier(blobs: Blobs) -> None:
    trainer = Trainer(dataclasses.replace(SPEC, lora=LORA))
    rows = DatasetRows.load(texts(blobs, LABELLED), blobs, trainer)
    assert rows.columns.keys() == {"input_ids", "attention_mask", "targets"}
    batch = rows.take([1, 0])
    assert batch["input_ids"].shape == (2, 5)  # as wide as the longer of the two, and its end
    assert batch["targets"].tolist() == [1, 0]
    assert trainer.forward_backward(batch).num_examples == 2


def test_texts_of_a_frozen_model_are_read_once(blobs: Blobs) -> None:
    trainer = Trainer(SPEC)
    rows = DatasetRows.load(texts(blobs, LABELLED), blobs, trainer)
    assert rows.columns.keys() == {PREPARED, "targets"}
    assert trainer.forward_backward(rows.take([2])).num_examples == 1


def test_texts_of_people_are_drawn_by_person(blobs: Blobs) -> None:
    told = {**LABELLED, "unit_ids": ["ann", "bob", "ann"]}
    rows = DatasetRows.load(texts(blobs, told), blobs, Trainer(SPEC))
    assert np.asarray(rows.take_members([0])["targets"]).tolist() == [0, 0]


@pytest.mark.parametrize("told", [TEXTS, LABELLED], ids=["texts alone", "with targets"])
def test_language_model_goes_on_writing_from_texts(blobs: Blobs, told: Any) -> None:
    rows = DatasetRows.load(texts(blobs, told), blobs, Trainer(TEXT_SPEC))
    assert rows.columns.keys() == {"input_ids", "attention_mask", "labels"}


def test_texts_that_tell_nothing_apart_are_refused(blobs: Blobs) -> None:
    with pytest.raises(InvalidRequest, match="without targets"):
        DatasetRows.load(texts(blobs, TEXTS), blobs, Trainer(SPEC))
    with pytest.raises(InvalidBatch, match="one entry for each"):
        DatasetRows.load(texts(blobs, {**LABELLED, "targets": [0]}), blobs, Trainer(SPEC))
