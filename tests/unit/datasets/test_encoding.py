"""How raw rows become features: the same way for ever, and without a value in any message."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tg_workbench.datasets.encoding import Bucketed, Dated, Encoding, Named, Number, Switch
from tg_workbench.errors import InvalidBatch

TABLE = Encoding(
    "table",
    "classification",
    (
        Number.within("age", 0, 100, optional=False),
        Number("income"),
        Switch("smokes"),
        Dated("seen"),
        Named("ward", False, ("A", "3")),
        Bucketed("city"),
    ),
    ("no", "yes"),
    target="ill",
)
ROW = {"age": 50, "income": 0.0, "smokes": True, "seen": "2000-01-01", "ward": 3, "city": "Bern"}
SECRET = "S3CR3T"


def test_a_row_becomes_features_in_the_order_of_the_columns() -> None:
    (row,) = TABLE.features([ROW])
    assert TABLE.inputs == ("age", "income", "smokes", "seen", "ward", "city")
    assert row.shape == TABLE.input_shape == (TABLE.width,) == (1 + 1 + 1 + 3 + 2 + 32,)
    assert row[:4].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert row[6:8].tolist() == [0.0, 1.0]
    assert row[8:].sum() == 1


def test_rows_by_name_and_in_order_are_the_same() -> None:
    by_name = TABLE.features([ROW, dict(reversed(ROW.items()))])
    assert np.array_equal(by_name, TABLE.features([list(ROW.values())] * 2))


def test_an_encoding_survives_json() -> None:
    again = Encoding.from_json(json.loads(json.dumps(TABLE.as_json())))
    assert again == TABLE
    assert np.array_equal(again.features([ROW]), TABLE.features([ROW]))
    with pytest.raises(ValueError, match="another version"):
        Encoding.from_json(TABLE.as_json() | {"version": 2})


def test_what_is_missing_is_nothing() -> None:
    row = TABLE.features([ROW | {"income": None, "smokes": "", "seen": float("nan"), "city": "NA"}])[0]
    assert row[1:6].tolist() == [0.0] * 5
    assert row[8:].sum() == 0


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"age": None}, "age"),
        ({"age": SECRET}, "age"),
        ({"age": True}, "age"),
        ({"age": float("inf")}, "age"),
        ({"income": 10**400}, "income"),
        ({"income": [SECRET]}, "income"),
        ({"smokes": SECRET}, "smokes"),
        ({"smokes": 1}, "smokes"),
        ({"seen": SECRET}, "seen"),
        ({"seen": "2000-13-01"}, "seen"),
        ({"ward": SECRET}, "ward"),
        ({"ward": ""}, "ward"),
        ({"city": {SECRET: 1}}, "city"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_row_and_column(change: dict[str, Any], column: str) -> None:
    with pytest.raises(InvalidBatch, match=f"^row 2, column {column}: ") as refusal:
        TABLE.features([ROW, ROW | change])
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("rows", [[], {}, "rows", [5], [[1, 2]], [{"age": 1}], [ROW | {SECRET: 1}], None])
def test_rows_of_the_wrong_shape_are_refused(rows: Any) -> None:
    with pytest.raises(InvalidBatch) as refusal:
        TABLE.features(rows)
    assert SECRET not in str(refusal.value)


@given(
    st.lists(
        st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.booleans(), st.binary()), max_size=7
    )
)
def test_any_row_becomes_finite_features_or_is_refused(row: list[Any]) -> None:
    try:
        features = TABLE.features([row])
    except InvalidBatch:
        return
    assert np.isfinite(features).all()


def test_a_bucket_is_the_same_in_every_process() -> None:
    script = (
        "from tg_workbench.datasets.encoding import Bucketed; "
        "print([Bucketed('city').place_of(word) for word in ('Bern', 'Rom', 'Oslo', '')])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(
        [Bucketed("city").place_of(word) for word in ("Bern", "Rom", "Oslo", "")]
    )
    assert told.stdout.strip() == "[26.0, 11.0, 2.0, 19.0]"


def test_images_are_read_as_bytes() -> None:
    encoding = Encoding("images", "classification", class_names=("cat", "dog"), image_shape=(1, 2, 2))
    image = [[0, 255], [7, 8]]
    read = encoding.features([image, [image], {"image": image}])
    assert read.dtype == np.uint8
    assert read.tolist() == [[image]] * 3
    for wrong in ([[0, 256], [0, 0]], [[0.5, 0], [0, 0]], [[0, 0, 0]], "x", [[1], [2, 3]], None):
        with pytest.raises(InvalidBatch, match=r"^row 1, column image: "):
            encoding.features([wrong])


def test_texts_are_read_alone_or_by_name() -> None:
    encoding = Encoding("texts", "classification", class_names=("neg", "pos"))
    assert encoding.texts(["a", {"text": "b"}, ["c"]]) == ["a", "b", "c"]
    assert (encoding.inputs, encoding.width, encoding.input_shape) == (("text",), 0, ())
    for wrong in ("", 5, {"texts": "a"}):
        with pytest.raises(InvalidBatch, match=r"^row 1"):
            encoding.texts([wrong])
    with pytest.raises(InvalidBatch, match="texts, and"):
        encoding.features(["a"])


def test_a_model_card_can_tell_every_input() -> None:
    assert [line["name"] for line in TABLE.describe()] == list(TABLE.inputs)
    assert "hashed into 32 buckets" in TABLE.describe()[-1]["reading"]


def test_few_values_that_are_known_are_told_and_many_are_not() -> None:
    with pytest.raises(InvalidBatch, match=r"row 1, column ward: must be one of A, 3$"):
        TABLE.features([ROW | {"ward": SECRET}])
    many = Encoding(
        "table", "classification", (Named("ward", values=tuple(map(str, range(99)))),), ("a", "b")
    )
    with pytest.raises(InvalidBatch, match=r"one of the values that are known of it$"):
        many.features([{"ward": SECRET}])


def test_what_a_number_is_to_look_like_is_told() -> None:
    for wrong in ("1,5", "1.5", SECRET, 10**400, float("inf")):
        with pytest.raises(
            InvalidBatch, match=r"column age: must be a finite number, such as 1234.5, and no text"
        ):
            TABLE.features([ROW | {"age": wrong}])


def test_a_column_too_many_is_told_with_those_that_are_read() -> None:
    with pytest.raises(InvalidBatch, match=r"row 1: .* it reads age, income, smokes") as failure:
        TABLE.features([{**ROW, SECRET: SECRET}])
    assert SECRET not in str(failure.value)
