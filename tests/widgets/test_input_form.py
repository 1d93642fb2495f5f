from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tg_widgets.input_form import FieldsInvalid, field_named, form_of, row_of

from tg_workbench.sdk import Model

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "type": "number", "optional": False, "low": 0.0, "high": 120.0},
    {"name": "smokes", "type": "category", "optional": True, "values": ["never", "often"]},
    {"name": "insured", "type": "boolean", "optional": False},
    {"name": "seen", "type": "date", "optional": True},
    {"name": "words", "type": "category", "optional": True},
]
TABLE = Model("mdl-1", inputs=[column["name"] for column in COLUMNS], columns=COLUMNS, task="classification")
NUMBERS = Model("mdl-2", architecture={"input_shape": [3]}, task="regression")
MANY = Model("mdl-3", architecture={"input_shape": [100]}, task="regression")
PICTURES = Model(
    "mdl-4", architecture={"input_shape": [3, 2, 4]}, class_names=["cat", "dog"], task="classification"
)
TEXTS = Model("mdl-5", architecture={"max_length": 64}, class_names=["bad", "good"], task="classification")


def test_a_field_is_what_its_column_is() -> None:
    form = form_of(TABLE)
    assert [(field["name"], field["kind"]) for field in form["fields"]] == [
        ("age", "number"),
        ("smokes", "choice"),
        ("insured", "choice"),
        ("seen", "date"),
        ("words", "word"),
    ]
    assert form["fields"][0]["hint"] == "0 to 120"
    assert form["fields"][2]["values"] == ["true", "false"]
    assert [form_of(each)["kind"] for each in (NUMBERS, MANY, PICTURES, TEXTS)] == [
        "numbers",
        "numbers",
        "image",
        "text",
    ]
    assert [len(form_of(each)["fields"]) for each in (NUMBERS, MANY)] == [3, 1]


def test_a_filled_in_form_is_a_row() -> None:
    said = {"age": " 71 ", "smokes": "often", "insured": "false", "seen": "2026-03-31", "words": ""}
    assert row_of(TABLE, {"fields": said}) == {
        "age": 71.0,
        "smokes": "often",
        "insured": False,
        "seen": "2026-03-31",
        "words": None,
    }
    assert row_of(NUMBERS, {"fields": {"x1": "1", "x2": "-2.5", "x3": "1e3"}}) == [1.0, -2.5, 1000.0]
    assert row_of(MANY, {"fields": {"numbers": ", ".join(["1"] * 100)}}) == [1.0] * 100
    assert row_of(TEXTS, {"fields": {"text": "well made"}}) == "well made"
    pixels = row_of(PICTURES, {"buffers": [bytes(range(24))]})
    assert pixels.shape == (3, 2, 4)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("model", "values", "problems"),
    [
        (
            TABLE,
            {"fields": {"age": "old", "smokes": "rarely", "seen": "today", "insured": ""}},
            {
                "age": "must be a number",
                "smokes": "must be one of those the model knows",
                "insured": "this model needs it",
                "seen": "must be a date as 2026-03-31",
            },
        ),
        (
            NUMBERS,
            {"fields": {"x1": "1", "x2": "inf", "x3": ""}},
            {"x2": "must be a number", "x3": "must be a number"},
        ),
        (MANY, {"fields": {"numbers": "1 2"}}, {"numbers": "this model reads 100 values, and here are 2"}),
        (MANY, {"fields": "no object"}, {"numbers": "this model reads 100 values, and here are 0"}),
        (TEXTS, {"fields": {"text": "  "}}, {"text": "write a text of 1 to 20,000 characters"}),
        (PICTURES, {"buffers": [b"short"]}, {"image": "choose a picture"}),
        (PICTURES, {}, {"image": "choose a picture"}),
    ],
    ids=["table", "numbers", "many", "nothing", "text", "short", "no picture"],
)
def test_all_that_cannot_be_meant_is_said_of_its_field(
    model: Model, values: dict[str, Any], problems: dict[str, str]
) -> None:
    with pytest.raises(FieldsInvalid) as refusal:
        row_of(model, values)
    assert refusal.value.problems == problems


def test_an_error_of_the_workbench_finds_its_field() -> None:
    assert field_named(TABLE, "row 1, column seen: must be a date") == "seen"
    assert field_named(TABLE, "the model is busy") == ""
    assert field_named(TEXTS, "inputs.0: must be a text") == "text"
