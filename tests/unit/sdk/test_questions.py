from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from tg_workbench import InvalidBatch
from tg_workbench.sdk import questions
from tg_workbench.sdk.questions import Reading, parts_of, rows_to_ask

TABLE = Reading(("age", "city"))
NUMBERS = Reading(None, (3,))
PICTURES = Reading(None, (1, 2, 2))
NAMED_PICTURES = Reading(None, (1, 2, 2), takes_bytes=True)
COLOURS = Reading(None, (3, 2, 2), takes_bytes=True)
TEXTS = Reading(None, (), takes_texts=True)
GREY = np.array([[0, 255], [51, 102]], np.uint8)


@pytest.mark.parametrize(
    ("rows", "reading", "asked"),
    [
        ({"age": 1, "city": "Rome"}, TABLE, [{"age": 1, "city": "Rome"}]),
        ([1, "Rome"], TABLE, [[1, "Rome"]]),
        ([[1, "Rome"], (2, None)], TABLE, [[1, "Rome"], [2, None]]),
        (["a", "b"], TABLE, [["a", "b"]]),
        (["a", "b"], TEXTS, ["a", "b"]),
        ("a", TEXTS, ["a"]),
        (pl.DataFrame({"text": ["a", "b"]}), TEXTS, ["a", "b"]),
        ([1, 2.5, True], NUMBERS, [[1, 2.5, True]]),
        (np.array([1.0, 2.0, 3.0]), NUMBERS, [[1.0, 2.0, 3.0]]),
        (np.ones((2, 3), np.float32), NUMBERS, [[1.0] * 3] * 2),
        (torch.ones(2, 3), NUMBERS, [[1.0] * 3] * 2),
        ([np.float32(1.5), np.int64(2), np.bool_(True)], NUMBERS, [[1.5, 2, True]]),
        ([np.array([1.0, 2.0, 3.0])], NUMBERS, [[1.0, 2.0, 3.0]]),
        (pl.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]}), NUMBERS, [[1, 3, 5], [2, 4, 6]]),
        (GREY, PICTURES, [[[0.0, 1.0], [pytest.approx(0.2), pytest.approx(0.4)]]]),
        (GREY[None], NAMED_PICTURES, [GREY[None].tolist()]),
        (GREY[None, None], NAMED_PICTURES, [GREY[None].tolist()]),
        (Image.fromarray(GREY), NAMED_PICTURES, [GREY[None].tolist()]),
        ([Image.fromarray(GREY).convert("RGB")] * 2, NAMED_PICTURES, [GREY[None].tolist()] * 2),
        (Image.fromarray(GREY), COLOURS, [[GREY.tolist()] * 3]),
        (Image.fromarray(GREY), PICTURES, [[[[0.0, 1.0], [pytest.approx(0.2), pytest.approx(0.4)]]]]),
        (pd.Series({"sick": "no", "city": "Rome", "age": 1}), TABLE, [{"age": 1, "city": "Rome"}]),
        (pd.Series([1, "Rome"]), TABLE, [[1, "Rome"]]),
        (pd.Series([1.0, 2.0, 3.0]), NUMBERS, [[1.0, 2.0, 3.0]]),
        (pd.Series(["a", "b"], index=["x", "y"]), TEXTS, ["a", "b"]),
        (pl.Series(["a", "b"]), TEXTS, ["a", "b"]),
    ],
)
def test_rows_of_every_shape_become_a_list_of_rows(rows: Any, reading: Reading, asked: Any) -> None:
    assert rows_to_ask(rows, reading) == asked


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_a_table_keeps_its_order_and_leaves_out_what_is_not_read(kind: Any) -> None:
    frame = kind({"sick": ["no", "no"], "city": ["Rome", None], "age": [1.5, float("nan")]})
    first, second = rows_to_ask(frame, TABLE)
    assert first == {"age": 1.5, "city": "Rome"}
    assert second["city"] is None
    with pytest.raises(InvalidBatch, match="reads column age"):
        rows_to_ask(kind({"city": ["Rome"]}), TABLE)


def test_what_is_not_in_a_table_or_row_is_named() -> None:
    with pytest.raises(InvalidBatch, match="reads column age, and the row has none"):
        rows_to_ask(pd.Series({"city": "Rome"}), TABLE)
    with pytest.raises(InvalidBatch, match="give the column of them, not all 2"):
        rows_to_ask(pl.DataFrame({"id": [1], "text": ["a"]}), TEXTS)


def test_a_picture_is_shown_upright_and_on_white_as_it_was_learned() -> None:
    drawing = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    drawing.putpixel((0, 0), (0, 0, 0, 255))
    drawing.getexif()[0x0112] = 6  # held so that its left side is above
    upright = Reading(inputs=("image",), shape=(1, 2, 1), takes_bytes=True)
    assert rows_to_ask(drawing, upright) == [[[[0], [255]]]]


def test_values_are_told_as_json_has_them() -> None:
    row = [datetime.date(2026, 1, 2), Decimal("1.5"), float("nan"), np.datetime64("2026-01-02T03:04:05")]
    assert rows_to_ask([row], TABLE) == [["2026-01-02", 1.5, None, "2026-01-02T03:04:05"]]


@pytest.mark.parametrize("rows", [[], 7, [float("inf"), 1], [object()], np.array(3.0)])
def test_what_is_no_row_is_refused(rows: Any) -> None:
    with pytest.raises(InvalidBatch):
        rows_to_ask(rows, NUMBERS)


def test_many_rows_are_asked_about_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(part) for part in parts_of([[1]] * 11_000)] == [5000, 5000, 1000]
    assert [len(part) for part in parts_of(["a"] * 600)] == [250, 250, 100]
    monkeypatch.setattr(questions, "LONGEST_JSON", 20)
    assert [len(part) for part in parts_of([[1234567]] * 5)] == [2, 2, 1]
