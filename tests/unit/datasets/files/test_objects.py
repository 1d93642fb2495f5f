"""Bad JSON and JSON Lines: told by row or line, however deep, broken or large."""

from __future__ import annotations

import json

import pytest

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits
from tg_workbench.datasets.files.objects import ObjectsTable

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "text", "where", "problem"),
    [
        ("t.jsonl", '{"a":1,"y":0}\n{"a":1,"y":S3CR3T}\n', "line 2", "is not JSON, from its character 12 on"),
        ("t.jsonl", '{"a":1,"y":0}\n5\n', "line 2", "is not a JSON object"),
        ("t.jsonl", '{"a":1,"y":0}\n{"a":1,"b":2}\n', "row 2", "give the first row all of them"),
        ("t.jsonl", '{"a":1,"y":0}\n{"a":1,"a":2}\n', "line 2", "two columns of the same name"),
        ("t.json", '[{"a":1,"y":0},{"a":[1],"y":0}]', "row 2, column a", "holds a list or an object"),
        ("t.json", '[{"a":1,"y":0},{"a":{"b":1},"y":0}]', "row 2, column a", "holds a list or an object"),
        ("t.json", '[{"a":1,"y":0},{"a":' + DEEP + "}]", "row 2", "is nested too deep"),
        ("t.json", DEEP, "row 1", "is nested too deep"),
        ("t.json", '{"a":' + DEEP, "file", "is nested too deep"),
        ("t.json", '[{"a":1,"y":0}', "file", "lacks a comma before row 2"),
        ("t.json", '[{"a":1,"y":0},', "row 2", "is not JSON"),
        ("t.json", '[{"a":1,"y":0}] S3CR3T', "file", "goes on after its end"),
        ("t.json", '{"data":[{"a":1,"y":0}],"more":1}', "file", "has more beside"),
        ("t.json", '{"a":[1,2],"y":[0]}', "file", "columns of different lengths"),
        ("t.json", '{"a":[1,[2]],"y":[0,1]}', "row 2, column a", "holds a list or an object"),
        ("t.json", '{"a":\n1}', "file", "an object of columns"),
        ("t.json", "[]", "file", "holds no rows"),
        ("t.json", "[{}]", "row 1", "has no columns"),
        ("t.json", '[{"a":"x\\u0000","y":0}]', "row 1, column a", "holds a NUL character"),
        ("t.json", '[{"a":"\\ud800","y":0}]', "row 1, column a", "lone surrogate"),
        ("t.json", '[{"\\ud800":1,"y":0}]', "column 1", "cannot be printed"),
        ("t.json", '[{"a":1e999,"y":0},{"a":1,"y":1}]', "row 1, column a", "infinite"),
        ("t.json", '[{"a":Infinity,"y":0},{"a":1,"y":1}]', "row 1, column a", "infinite"),
        ("t.json", '[{"a":1' + "0" * 400 + ',"y":0},{"a":1,"y":1}]', "row 1, column a", "infinite"),
        ("t.json", '[{"a":' + "1" * 9_000 + ',"y":0}]', "row 1", "a number that is too long"),
    ],
    ids=range(25),
)
def test_a_mistake_is_told_by_its_place(desk: Desk, name: str, text: str, where: str, problem: str) -> None:
    (found,) = desk.refuse(name, text)
    assert found["where"] == where
    assert problem in found["problem"]
    assert "S3CR3T" not in str(found)


def test_latin_1_is_refused_by_its_byte(desk: Desk) -> None:
    (found,) = desk.refuse("t.json", b'[{"a":"\xe9","y":0}]')
    assert found["problem"] == "is not UTF-8 at byte 7"
    (found,) = desk.refuse("t.jsonl", b'{"a":1,"y":0}\n{"a":"\xe9","y":0}')
    assert found == {"where": "line 2", "problem": "is not UTF-8 at its byte 7"}


def test_one_endless_object_is_given_up(desk: Desk) -> None:
    small = Limits(line_bytes=1_000_000)
    endless = '{"a":"' + "x" * 3_000_000
    assert "longer than 1,000,000 bytes" in desk.refuse("t.json", f"[{endless}", small)[0]["problem"]
    assert (
        "longer than 1,000,000 bytes"
        in desk.refuse("t.jsonl", '{"a":1,"y":0}\n' + endless, small)[0]["problem"]
    )


def test_rows_across_the_pieces_that_are_read_come_through(desk: Desk) -> None:
    rows = [{"a": f"é{n}", "y": n % 2, "t": "ü" * (n % 400)} for n in range(5_000)]
    outcome = desk.take("t.json", json.dumps(rows, ensure_ascii=False, indent=1), target="y")
    assert outcome.prepared.size == 5_000
    assert outcome.tensors["targets"].tolist() == [n % 2 for n in range(5_000)]


def test_a_name_left_out_is_a_missing_value(desk: Desk) -> None:
    found = desk.take("t.jsonl", '{"a":1,"b":2,"y":0}\n{"y":1,"b":2}\n{"a":null,"b":NaN,"y":1}').prepared
    assert {column.name: column.missing for column in found.inspection.columns} == {"a": 2, "b": 1, "y": 0}


@pytest.mark.parametrize("form", ["columns", "list", "records", "split by lines"])
def test_what_pandas_writes_is_read(desk: Desk, form: str) -> None:
    columns: dict[str, dict[str, object]] = {"a": {"0": 1.5, "1": 2.5}, "y": {"0": "p", "1": "q"}}
    rows = [{"a": 1.5, "y": "p"}, {"a": 2.5, "y": "q"}]
    told = {
        "columns": json.dumps(columns),
        "list": json.dumps({name: list(values.values()) for name, values in columns.items()}),
        "records": json.dumps(rows),
        "split by lines": "\n".join(map(json.dumps, rows)),
    }
    found = desk.take("t.json", told[form]).prepared.inspection
    assert [(column.name, column.type) for column in found.columns] == [("a", "number"), ("y", "category")]
    assert found.rows == 2


def test_long_texts_are_read_a_few_at_a_time(desk: Desk) -> None:
    lines = "\n".join(json.dumps({"text": "x" * 60_000, "label": n % 2}) for n in range(20))
    source = desk.folder / "lines"
    source.write_text(lines)
    table = ObjectsTable(source, "jsonl", desk.folder, Limits(chunk_bytes=200_000))
    found = list(table.frames())
    assert [first for first, _ in found] == [1, 5, 9, 13, 17]
    assert sum(frame.height for _, frame in found) == 20
