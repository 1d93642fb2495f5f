from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk.batches import batch_body, rows_of, tensors_body

ROWS = [[0.5, 1.0], [1.5, 2.0]]


class Frame:
    """A table as pandas, polars and others offer theirs: through `__array__`."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.rows, dtype=dtype)


def test_lists_travel_as_json() -> None:
    body = batch_body({"features": ROWS, "targets": [0, 1], "labels": None})
    assert body.content_type == "application/json"
    assert json.loads(body.content) == {"batch": {"features": ROWS, "targets": [0, 1]}}


@pytest.mark.parametrize(
    "rows",
    [
        np.array(ROWS),
        np.array(ROWS, dtype=np.float16),
        np.asfortranarray(ROWS),
        Frame(ROWS),
        torch.tensor(ROWS, requires_grad=True),
        [np.array(row) for row in ROWS],
    ],
    ids=["numpy", "half", "fortran", "frame", "torch", "list of arrays"],
)
def test_arrays_travel_as_tensors_of_32_bit_floats(rows: Any) -> None:
    body = batch_body({"features": rows, "targets": [0, 1]})
    tensors = load(body.content)
    assert body.content_type == "application/vnd.safetensors"
    assert tensors["features"].dtype == np.float32
    assert tensors["features"].tolist() == ROWS
    assert tensors["targets"].dtype == np.int64


@pytest.mark.parametrize(
    ("given", "sent"),
    [(np.int32, np.int64), (np.bool_, np.int64), (np.uint16, np.int64), (np.uint8, np.uint8)],
)
def test_whole_numbers_travel_as_such(given: type, sent: type) -> None:
    assert load(tensors_body({"x": np.ones(3, dtype=given)}).content)["x"].dtype == sent


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.array(["cat", "dog"]), "encode classes"),
        (Frame([[1.0, None], [2.0, "x"]]), "encode classes"),
        (np.array([1 + 2j]), "complex"),
        ([np.zeros(2), np.zeros(3)], "same length"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_by_name(rows: Any, words: str) -> None:
    with pytest.raises(InvalidBatch, match=f"features.*{words}"):
        tensors_body({"features": rows})


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InvalidBatch, match="empty"):
        batch_body({})


@pytest.mark.parametrize(
    ("batch", "members", "dataset"),
    [(None, {"features": None}, None), ({"features": ROWS}, {"features": ROWS}, None), ({}, {}, "ds-1")],
)
def test_exactly_one_source_of_rows_is_taken(
    batch: dict[str, Any] | None, members: dict[str, Any], dataset: str | None
) -> None:
    with pytest.raises(InvalidBatch, match="exactly one"):
        rows_of(batch, members, dataset=dataset)
