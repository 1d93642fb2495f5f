"""Texts, alone or with labels, as language models are trained from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.errors import InvalidRequest

REVIEWS = 'text,label,author\n"good, very good",pos,x\nNA,neg,y\n"bad\nday",neg,x\n'
TEXTS = ["good, very good", "NA", "bad\nday"]


def test_texts_and_labels_are_for_classification(desk: Desk) -> None:
    outcome = desk.take("t.csv", REVIEWS, unit_column="author", privacy="public")
    assert json.loads(outcome.content.data) == {"texts": TEXTS, "targets": [1, 0, 0], "unit_ids": [0, 1, 0]}
    assert outcome.prepared.inspection.task == "text_classification"
    assert (outcome.prepared.encoding.kind, outcome.prepared.encoding.task) == ("texts", "classification")
    assert outcome.prepared.encoding.class_names == ("neg", "pos")
    assert outcome.prepared.inspection.preview is not None


@pytest.mark.parametrize("said", [{}, {"unit_column": "author"}], ids=["rows", "authors"])
def test_the_digests_are_those_of_the_same_bytes_handed_over(desk: Desk, said: dict[str, Any]) -> None:
    outcome = desk.take("t.csv", REVIEWS, dataset_type="language_modeling", **said)
    for name in ("digest", "rows_digest", "plain_digest", "units", "units_digest", "size", "tensors"):
        assert getattr(outcome.prepared, name) == getattr(outcome.content, name), name
    assert outcome.prepared.encoding.class_names is None
    plain = desk.take("t.json", json.dumps(TEXTS))
    assert plain.prepared.rows_digest == outcome.prepared.rows_digest
    assert json.loads(plain.content.data) == TEXTS


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.json", json.dumps(TEXTS)),
        ("t.json", json.dumps({"texts": TEXTS})),
        ("t.json", json.dumps({"data": [{"text": text} for text in TEXTS]})),
        ("t.jsonl", "\n".join(json.dumps({"content": text}) for text in TEXTS)),
        ("t.csv", 'text\n"good, very good"\nNA\n"bad\nday"\n'),
    ],
    ids=range(5),
)
def test_texts_alone_come_in_many_forms(desk: Desk, name: str, data: str) -> None:
    outcome = desk.take(name, data)
    assert json.loads(outcome.content.data) == TEXTS
    assert outcome.prepared.inspection.task == "language_modeling"


@pytest.mark.parametrize(
    ("text", "said", "where", "problem"),
    [
        ("text,label\na,1\n,0\n", {}, "row 2 (line 3), column text", "holds no text"),
        ("text,label\na,1\n  ,0\n", {}, "row 2 (line 3), column text", "holds no text"),
        ("text,label\na,1\nb,\n", {}, "row 2 (line 3), column label", "every row needs a target"),
        ("text,label\na,1\nb,1\n", {}, "column label", "one class only"),
        ("text,label\na,1\nb,5\n", {"classes": ("1", "2")}, "row 2 (line 3), column label", "not among"),
        ("text\na\nb\n", {"dataset_type": "text_classification"}, "file", "no column of labels"),
        ("a,b,c\nx,y,z\n", {"dataset_type": "language_modeling"}, "file", "name it as text_column"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_its_place(
    desk: Desk, text: str, said: dict[str, Any], where: str, problem: str
) -> None:
    (found,) = desk.refuse("t.csv", text, **said)
    assert found["where"] == where
    assert problem in found["problem"]


@pytest.mark.parametrize(
    "said",
    [
        {"text_column": "z"},
        {"target": "z"},
        {"unit_column": "text"},
        {"dataset_type": "language_modeling", "target": "label"},
        {"dataset_type": "regression", "text_column": "text"},
    ],
)
def test_a_request_that_cannot_be_is_refused(desk: Desk, said: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        desk.take("t.csv", REVIEWS, **said)


def test_other_columns_are_left_out_and_told(desk: Desk) -> None:
    found = desk.take(
        "t.csv", "id,text,label,more\n1,a,x,2\n2,b,y,3\n", dataset_type="text_classification"
    ).prepared
    assert found.inspection.target == "label"
    assert [warning.split(" is left out")[0] for warning in found.inspection.warnings] == [
        "column id",
        "column more",
    ]


def test_a_text_among_many_columns_makes_no_texts(desk: Desk) -> None:
    assert desk.take("t.csv", "a,b,text,y\n1,2,x,0\n2,3,z,1\n").prepared.inspection.kind == "table"
