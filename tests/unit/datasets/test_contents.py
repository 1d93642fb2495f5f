"""What a dataset's bytes say of the rows in them, and of whose they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tg_workbench.datasets import Content
from tg_workbench.errors import InvalidRequest

ROWS: dict[str, Any] = {
    "features": np.arange(3000, dtype=np.float32).reshape(1000, 3),
    "targets": np.arange(1000) % 2,
}
OWNERS = np.random.default_rng(0).integers(0, 400, 1000)


def content(**more: Any) -> Content:
    return Content.of_tensors(save({**ROWS, **more}))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int16])
def test_units_are_counted_whatever_number_type_they_come_in(kind: Any) -> None:
    found = content(unit_ids=OWNERS.astype(kind))
    assert found.units == len(set(OWNERS.tolist())) > 256
    assert found.units_digest == content(unit_ids=OWNERS).units_digest


def test_units_are_the_same_by_any_name_and_others_are_not() -> None:
    known = content(unit_ids=OWNERS)
    assert content(unit_ids=OWNERS * 7 - 3).units_digest == known.units_digest
    assert content(unit_ids=OWNERS // 2).units_digest != known.units_digest
    assert content().units_digest is None


def test_rows_are_the_same_with_and_without_units_and_however_they_are_packed() -> None:
    known = content()
    assert content(unit_ids=OWNERS).rows_digest == known.rows_digest
    packed = Content.of_tensors(save(ROWS, metadata={"made": "elsewhere"}))
    assert packed.digest != known.digest
    assert packed.rows_digest == known.rows_digest
    assert content(unit_ids=OWNERS).plain_digest == known.digest == known.plain_digest
    other = Content.of_tensors(save({**ROWS, "targets": ROWS["targets"][::-1].copy()}))
    assert other.rows_digest != known.rows_digest


def test_texts_are_the_same_with_and_without_authors() -> None:
    plain = Content.of_texts(json.dumps(["a", "b", "é"]).encode())
    told = {"texts": ["a", "b", "é"], "unit_ids": [7, "x", "7"]}
    by_author = Content.of_texts(json.dumps(told, ensure_ascii=False).encode())
    assert by_author.rows_digest == plain.rows_digest
    assert (by_author.units, by_author.size) == (2, 3)


@pytest.mark.parametrize("ids", [OWNERS.astype(np.float32), OWNERS.reshape(-1, 1), OWNERS > 5])
def test_units_that_are_not_one_number_per_row_are_refused(ids: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidRequest, match="one whole number for each row"):
        content(unit_ids=ids)


@pytest.mark.parametrize("ids", [[1], [1, 2.5, 3], [1, 2, True], [1, 2, ""], "abc"])
def test_authors_that_are_not_one_for_each_text_are_refused(ids: Any) -> None:
    with pytest.raises(InvalidRequest, match="for each of the texts"):
        Content.of_texts(json.dumps({"texts": ["a", "b", "c"], "unit_ids": ids}).encode())


@pytest.mark.parametrize("shape", [(1000,), (1000, 0), (1000, 3, 0)])
def test_features_without_a_column_are_refused_with_the_way_out(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"reshape\(-1, 1\)"):
        content(features=np.zeros(shape, np.float32))
