"""Rows of numbers become what a network reads; what is wrong is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tg_workbench.errors import InvalidBatch, RowInvalid
from tg_workbench.models.serving.rows import plain_features, rows_in


def test_rows_may_be_flat_or_nested() -> None:
    flat, nested = [1, 2, 3, 4], [[[1, 2], [3, 4]]]
    found = plain_features([flat, nested], (1, 2, 2), "inputs")
    assert found.shape == (2, 1, 2, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ([1, 2, 3], "inputs.1"),
        ([1, 2, 3, "4"], "inputs.1.3"),
        ([1, None, 3, 4], "inputs.1.1"),
        ([[1, 2], [3, 4]], "inputs.1"),
        ([[[1, 2], [3]]], "inputs.1.0.1"),
        ([[[1, 2], [3, True]]], "inputs.1.0.1.1"),
        ([1e39, 0, 0, 0], "inputs.1.0"),
        ("abc", "inputs.1"),
        ({"a": 1}, "inputs.1"),
    ],
    ids=range(9),
)
def test_what_is_wrong_is_named(row: Any, where: str) -> None:
    with pytest.raises(RowInvalid) as refused:
        plain_features([[1, 2, 3, 4], row], (1, 2, 2), "inputs")
    assert refused.value.problems[0]["where"] == f"body.{where}"


@pytest.mark.parametrize(
    "question", [{}, {"input": [1], "inputs": [[1]]}, {"inputs": []}, {"inputs": {}}], ids=range(4)
)
def test_a_question_has_one_kind_of_rows(question: dict[str, Any]) -> None:
    with pytest.raises(InvalidBatch):
        rows_in(question)
