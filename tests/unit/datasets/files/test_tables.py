"""From rows to features: what is guessed and learned, and what must not be learned of a protected set."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.encoding import Encoding, Number
from tg_workbench.errors import InvalidRequest

PATIENTS = """age,city,smokes,seen,ill
50,Bern,true,2020-01-01,yes
,Rom,false,2021-06-30,no
70,,yes,,no
"""
OTHERS = """age,city,smokes,seen,ill
-3e7,Oslo,no,1999-12-31T10:00:00,no
1,,,,yes
2,Paris,yes,1980-01-01,no
5,Lima,no,,yes
"""


def test_every_type_of_column_is_recognised(desk: Desk) -> None:
    found = desk.take("patients.csv", PATIENTS).prepared
    kinds = {column.name: (column.type, column.missing) for column in found.inspection.columns}
    assert kinds == {
        "age": ("number", 1),
        "city": ("category", 1),
        "smokes": ("boolean", 0),
        "seen": ("date", 1),
        "ill": ("boolean", 0),
    }
    assert (found.inspection.target, found.inspection.task) == ("ill", "classification")
    assert found.inspection.class_counts == {"no": 2, "yes": 1}
    assert found.encoding.class_names == ("no", "yes")
    json.dumps(found.inspection.as_json(), allow_nan=False)


def test_nothing_of_a_protected_encoding_depends_on_the_rows(desk: Desk) -> None:
    one, other = (desk.take("p.csv", text).prepared.encoding for text in (PATIENTS, OTHERS))
    assert one == other
    assert one.as_json() == other.as_json()


def test_a_number_without_a_range_is_warned_of_in_a_protected_set_only(desk: Desk) -> None:
    said = desk.take("p.csv", PATIENTS).prepared.inspection.warnings
    assert [line for line in said if "give ranges for age" in line]
    for declared in ({"ranges": {"age": (0, 100)}}, {"privacy": "public"}):
        told = desk.take("p.csv", PATIENTS, **declared).prepared.inspection.warnings
        assert not [line for line in told if "ranges" in line]


PRICES = "size,price\n" + "".join(f"{40 + n},{1000 * n + 0.5}\n" for n in range(30))
DEARER = "size,price\n" + "".join(f"{50 + n},{3000 * n + 700.5}\n" for n in range(30))


VISITS = "age,patient,ill\n" + "".join(f"{20 + n},Anna {n:02},{n % 2}\n" for n in range(30))


@pytest.mark.parametrize("values", ["Anna {}", "2024-01-{:02}"], ids=["names", "dates"])
def test_names_of_people_do_not_become_classes_of_a_protected_set(desk: Desk, values: str) -> None:
    text = "age,who\n" + "".join(f"{n},{values.format(n)}\n" for n in range(10, 30))
    (problem,) = desk.refuse("t.csv", text)
    assert problem["where"] == "column who"
    assert "what classes are called counts as public" in problem["problem"]
    assert desk.refuse("t.csv", text, target="who")
    declared = tuple(values.format(n) for n in range(10, 30))
    assert desk.take("t.csv", text, classes=declared).prepared.encoding.class_names == declared


def test_of_a_public_set_a_class_for_every_row_is_warned_of(desk: Desk) -> None:
    for target, warned in (("patient", True), ("ill", False)):
        said = desk.take("t.csv", VISITS, target=target, privacy="public").prepared.inspection.warnings
        assert any("a class for every one or two rows" in warning for warning in said) is warned


@pytest.mark.parametrize("ranges", [{}, {"price": (0.0, 200_000.0)}])
def test_of_a_protected_number_to_predict_only_what_was_declared_is_known(
    desk: Desk, ranges: dict[str, Any]
) -> None:
    one, other = (desk.take("p.csv", text, ranges=ranges).prepared for text in (PRICES, DEARER))
    assert one.encoding == other.encoding
    number = one.encoding.target_number
    told = [line for line in one.inspection.warnings if "column price" in line]
    if ranges:
        assert number == Number.within("price", 0.0, 200_000.0, optional=False)
        assert not told
    else:
        assert number is None
        assert len(told) == 1
        assert "ranges" in told[0]


def test_a_public_number_to_predict_is_scaled_by_its_mean_and_deviation(desk: Desk) -> None:
    found = desk.take("p.csv", PRICES, privacy="public")
    number, targets = found.prepared.encoding.target_number, found.tensors["targets"].astype(float)
    assert number is not None
    assert number.center == pytest.approx(targets.mean())
    assert number.scale == pytest.approx(targets.std())
    assert not [line for line in found.prepared.inspection.warnings if "price" in line]
    constant = desk.take("p.csv", "a,y\n1,7.5\n2,7.5\n", privacy="public", dataset_type="regression")
    assert constant.prepared.encoding.target_number == Number("y", False, "standard", 7.5, 1.0)


def test_a_target_beyond_its_declared_range_is_refused(desk: Desk) -> None:
    assert desk.refuse("p.csv", PRICES, ranges={"price": (0, 28_000)}) == [
        {"where": "row 29 (line 30), column price", "problem": "lies outside the range that was declared"},
        {"where": "row 30 (line 31), column price", "problem": "lies outside the range that was declared"},
    ]


def test_a_public_encoding_is_learned(desk: Desk) -> None:
    one, other = (desk.take("p.csv", text, privacy="public").prepared.encoding for text in (PATIENTS, OTHERS))
    assert one != other
    assert one.columns[0].told == "minus its mean, by its deviation"
    assert "one of 2 values" in one.columns[1].told


@given(rows=st.lists(st.tuples(st.floats(-1e9, 1e9), st.text("abc", min_size=1)), min_size=2, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_no_rows_at_all_change_a_protected_encoding(desk: Desk, rows: list[tuple[float, str]]) -> None:
    lines = [f"{number!r},x{word},{place % 2}" for place, (number, word) in enumerate(rows)]
    text = "\n".join(["amount,name,label", *lines])
    expected = desk.take("p.csv", "amount,name,label\n1,x,0\n2,y,1").prepared.encoding
    assert desk.take("p.csv", text).prepared.encoding == expected


def test_a_preview_is_of_public_sets_only(desk: Desk) -> None:
    assert desk.take("p.csv", PATIENTS).prepared.inspection.preview is None
    preview = desk.take("p.csv", PATIENTS, privacy="public").prepared.inspection.preview
    assert preview is not None
    assert preview[0]["city"] == "Bern"


def test_training_and_predicting_read_a_row_alike(desk: Desk) -> None:
    outcome = desk.take("p.csv", PATIENTS)
    rows: list[dict[str, Any]] = [
        {"age": 50, "city": "Bern", "smokes": True, "seen": "2020-01-01"},
        {"age": None, "city": "Rom", "smokes": False, "seen": "2021-06-30"},
        {"age": 70.0, "city": None, "smokes": "yes", "seen": ""},
    ]
    assert np.array_equal(outcome.prepared.encoding.features(rows), outcome.tensors["features"])
    assert outcome.tensors["targets"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("privacy", ["protected", "public"])
@pytest.mark.parametrize("units", [None, "who"])
def test_the_digests_are_those_of_the_same_bytes_handed_over(
    desk: Desk, privacy: str, units: str | None
) -> None:
    text = "who,a,b,y\nx,1,2,0.5\ny,3,4,1.5\nx,5,6,9\n"
    outcome = desk.take("t.csv", text, privacy=privacy, unit_column=units)
    for name in ("digest", "rows_digest", "plain_digest", "units", "units_digest", "size", "tensors"):
        assert getattr(outcome.prepared, name) == getattr(outcome.content, name), name
    assert outcome.prepared.units == (2 if units else None)
    assert ("who" in outcome.prepared.encoding.inputs) == (units is None)


def test_units_keep_their_numbers_and_words_are_counted(desk: Desk) -> None:
    text = "who,name,a,y\n70,x,1,0\n8,y,3,1\n70,x,5,1\n"
    numbers = desk.take("t.csv", text, unit_column="who")
    words = desk.take("t.csv", text, unit_column="name")
    assert numbers.tensors["unit_ids"].tolist() == [70, 8, 70]
    assert words.tensors["unit_ids"].tolist() == [0, 1, 0]
    assert numbers.prepared.units_digest == words.prepared.units_digest


@pytest.mark.parametrize(
    ("header", "target"), [("label,a", "label"), ("a,b", "b"), ("Class,b", "Class"), ("y,b", "y")]
)
def test_the_target_is_guessed_by_its_name_or_is_the_last(desk: Desk, header: str, target: str) -> None:
    assert desk.take("t.csv", f"{header}\n1,0\n0,1\n").prepared.inspection.target == target
    first = header.split(",")[0]
    assert desk.take("t.csv", f"{header}\n1,0\n0,1\n", target=first).prepared.encoding.target == first


@pytest.mark.parametrize(
    ("values", "said", "task"),
    [
        (["0", "1", "2"] * 4, None, "classification"),
        (["0.0", "1.0"] * 4, None, "classification"),
        ([str(n) for n in range(40)], None, "regression"),
        (["0.5", "1.5"] * 4, None, "classification"),
        (["0", "1"] * 4, "regression", "regression"),
        (["2.5", "1"] * 4, "binary-classification", "classification"),
        (["true", "false"], "anything", "classification"),
    ],
)
def test_the_task_is_guessed_or_said(desk: Desk, values: list[str], said: str | None, task: str) -> None:
    if values[0] == "0.5":
        task = "regression"
    text = "a,y\n" + "".join(f"{n},{value}\n" for n, value in enumerate(values))
    assert desk.take("t.csv", text, dataset_type=said).prepared.inspection.task == task


def test_ranges_and_categories_that_were_declared_are_used(desk: Desk) -> None:
    said: dict[str, Any] = {"ranges": {"age": (0, 100)}, "categories": {"city": ("Bern", "Rom")}}
    outcome = desk.take("p.csv", PATIENTS, **said)
    assert outcome.tensors["features"][:, :3].tolist() == [[0, 1, 0], [0, 0, 1], [np.float32(0.4), 0, 0]]
    assert desk.refuse("p.csv", OTHERS, **said) == [
        {"where": "row 1 (line 2), column age", "problem": "lies outside the range that was declared"},
        {"where": "row 1 (line 2), column city", "problem": "is not among the values that were declared"},
        {"where": "row 3 (line 4), column city", "problem": "is not among the values that were declared"},
        {"where": "row 4 (line 5), column city", "problem": "is not among the values that were declared"},
    ]


@pytest.mark.parametrize(
    ("text", "said", "where", "problem"),
    [
        ("a,y\n1,1\n2,1\n", {}, "column y", "one class only"),
        ("a,y\n1,1\n2,\n", {}, "row 2 (line 3), column y", "every row needs a target"),
        ("a,y\n1,\n2,\n", {}, "column y", "nothing to predict"),
        ("a,y\n1,0\n2,7\n", {"classes": ("0", "1")}, "row 2 (line 3), column y", "not among the values"),
        ("a,y\n1,0\n2,7\n", {"ranges": {"y": (0, 5)}}, "row 2 (line 3), column y", "outside the range"),
        ("a,y\n1,v\n2,x\n", {"dataset_type": "regression"}, "column y", "regression predicts numbers"),
        ("a,y\n1,0\n2,x\n", {"dataset_type": "regression"}, "row 2 (line 3), column y", "not a number"),
        ("a,y\n1,0\ninf,1\n", {}, "row 2 (line 3), column a", "infinite"),
        ("a,y\n1,0\n1e39,1\n", {}, "row 2 (line 3), column a", "too large for a float32"),
        ("a,y\n1,0.5\n1,-inf\n", {"dataset_type": "regression"}, "row 2 (line 3), column y", "infinite"),
        ("a,e,y\n1,,0\n2,NA,1\n", {}, "column e", "says nothing in any row"),
        ("u,a,y\n1,1,0\n,2,1\n", {"unit_column": "u"}, "row 2 (line 3), column u", "whom the row is about"),
        ("a,y\nx,0\ny,1\n", {"ranges": {"a": (0, 1)}}, "column a", "holds no numbers"),
        ("y\n0\n1\n", {}, "file", "at least one other"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_its_place(
    desk: Desk, text: str, said: dict[str, Any], where: str, problem: str
) -> None:
    (found,) = desk.refuse("t.csv", text, **said)
    assert found["where"] == where
    assert problem in found["problem"]


def test_what_is_wrong_with_the_target_hides_no_other_column(desk: Desk) -> None:
    text = "a,b,y\n1,1,0\ninf,2,\n3,9,1\n"
    assert [problem["where"] for problem in desk.refuse("t.csv", text, ranges={"b": (0, 5)})] == [
        "row 2 (line 3), column y",
        "row 2 (line 3), column a",
        "row 3 (line 4), column b",
    ]
    many = "a,y\n" + "".join(f"{'inf' if row else 1},\n" for row in range(50)) + "1,0\n2,1\n"
    told = [problem["where"].rpartition(" ")[2] for problem in desk.refuse("t.csv", many)]
    assert (told.count("y"), told.count("a")) == (10, 10)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"ranges": {"aeg": (0, 1)}}, "ranges: no column of the file is called 'aeg'"),
        ({"categories": {"b": ("u",), "c": ("v",)}}, "categories: no column of the file is called 'b', 'c'"),
        ({"target": "z"}, "target: no column of the file is called 'z'"),
        ({"unit_column": "who"}, "unit_column: no column of the file is called 'who'"),
    ],
)
def test_a_column_that_is_not_there_is_named(desk: Desk, said: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{problem}$"):
        desk.take("t.csv", "age,y\n1,0\n2,1\n", **said)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (
            "Age,y\n1,0\n2,1\n",
            {"ranges": {"age": (0, 9)}},
            "'age': one is, but for capital letters",
        ),
        ("age,y\n1,0\n2,1\n", {"target": " Y"}, "' Y': one is, but for capital letters or blanks"),
        ("Report\nage,y\n1,0\n", {"target": "y"}, "'y': it has one column only; its first line must be"),
    ],
    ids=["capital", "blank", "title"],
)
def test_why_a_column_is_not_found_is_hinted_at(
    desk: Desk, text: str, said: dict[str, Any], hint: str
) -> None:
    with pytest.raises(InvalidRequest, match=hint):
        desk.take("t.csv", text, **said)


def test_an_empty_column_of_a_public_set_is_left_out_and_told(desk: Desk) -> None:
    found = desk.take("t.csv", "a,e,y\n1,,0\n2,,1\n", privacy="public").prepared
    assert found.encoding.inputs == ("a",)
    assert found.inspection.warnings == ("column e says nothing in any row: it is left out",)


def test_a_word_among_numbers_is_a_mistake_and_never_told(desk: Desk) -> None:
    text = "a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(20)) + "S3CR3T,1\n"
    (problem,) = desk.refuse("t.csv", text)
    assert problem["where"] == "row 21 (line 22), column a"
    assert "S3CR3T" not in str(problem)
    assert desk.take("t.csv", text, categories={"a": ("S3CR3T", *map(str, range(20)))})


@pytest.mark.parametrize(
    "said",
    [
        {"target": "z"},
        {"unit_column": "z"},
        {"ranges": {"z": (0, 1)}},
        {"ranges": {"a": (1, 0)}},
        {"categories": {"a": ("x", "x")}},
        {"classes": ("", "x")},
        {"privacy": "secret"},
        {"target": "a", "unit_column": "a"},
        {"dataset_type": "regression", "classes": ("1", "2")},
    ],
)
def test_a_request_that_cannot_be_is_refused(desk: Desk, said: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        desk.take("t.csv", "a,y\n1,1\n2,2\n", **said)


CELL = st.one_of(st.floats(-1e30, 1e30), st.integers(-(2**53), 2**53), st.none())


@given(rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=50), quoted=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_any_table_of_numbers_comes_through_as_it_was(desk: Desk, rows: list[Any], *, quoted: bool) -> None:
    rows = [(0, 0, 0), *rows]  # a protected column in which nothing is said is refused
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["a", "b", "c", "y"])
    writer.writerows([*row, number + 0.5] for number, row in enumerate(rows))
    outcome = desk.take("t.csv", text.getvalue(), dataset_type="regression")
    raw = np.array([[np.nan if cell is None else float(cell) for cell in row] for row in rows])
    expected = np.nan_to_num(np.arcsinh(raw)).astype(np.float32)
    assert np.array_equal(outcome.tensors["features"], expected)
    assert outcome.tensors["targets"].tolist() == [number + 0.5 for number in range(len(rows))]


WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@given(words=st.lists(st.tuples(WORD, WORD), min_size=2, max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_any_words_are_read_in_training_as_in_predicting(desk: Desk, words: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["first", "second", "y"])
    writer.writerows([f"w{one}", f"v{two}", number % 2] for number, (one, two) in enumerate(words))
    outcome = desk.take("t.csv", text.getvalue())
    rows = [[f"w{one}", f"v{two}"] for one, two in words]
    assert np.array_equal(outcome.prepared.encoding.features(rows), outcome.tensors["features"])


def test_the_same_table_is_the_same_dataset_in_every_format(desk: Desk, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"a": [1.5, None, 3.0], "b": ["x", "y", None], "c": [True, False, None], "y": [0, 1, 0]}
    )
    frame.write_parquet(tmp_path / "f")
    files = {
        "t.csv": frame.write_csv().encode(),
        "t.json": json.dumps(frame.to_dicts()).encode(),
        "t2.json": json.dumps({"data": frame.to_dicts()}).encode(),
        "t3.json": json.dumps(frame.to_dict(as_series=False)).encode(),
        "t.jsonl": frame.write_ndjson().encode(),
        "t.parquet": (tmp_path / "f").read_bytes(),
        "t.tsv": frame.write_csv(separator="\t").encode(),
        "none": frame.write_csv(separator=";").replace("\n", "\r\n").encode("utf-16"),
    }
    (tmp_path / "f").unlink()
    digests = {name: desk.take(name, data).prepared.rows_digest for name, data in files.items()}
    assert len(set(digests.values())) == 1, digests


def test_an_encoding_of_every_kind_survives_json(desk: Desk) -> None:
    for privacy in ("public", "protected"):
        encoding = desk.take("p.csv", PATIENTS, privacy=privacy).prepared.encoding
        assert Encoding.from_json(json.loads(json.dumps(encoding.as_json()))) == encoding
    number = desk.take("p.csv", PRICES, privacy="public").prepared.encoding
    assert Encoding.from_json(json.loads(json.dumps(number.as_json()))) == number


def test_an_encoding_from_before_targets_were_scaled_is_read(desk: Desk) -> None:
    told = desk.take("p.csv", PRICES).prepared.encoding.as_json()
    del told["target_number"]
    assert Encoding.from_json(told).target_number is None


FEW = "a,b,kind,day,y\n1,0.5,x,2020-01-01,true\n-2,,y,2021-01-01,false\n3,2.5,,2022-01-01,true\n"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t.csv", FEW, {"privacy": "public"}),
        ("t.csv", FEW + "\n\n", {"privacy": "public", "target": "kind", "text_column": "day"}),
        ("t.csv", FEW.replace("\n", "\r\n").replace(",", ";"), {}),
        ("t.csv", FEW, {"ranges": {"a": (-5, 5)}, "unit_column": "b", "target": "y"}),
        ("t.csv", FEW.replace("a,b,", "p,q,").replace("true", "True"), {}),
        ("t.jsonl", "", {"privacy": "public"}),
        ("t.parquet", "", {"privacy": "public"}),
    ],
    ids=["public", "blank-lines", "semicolons", "ranges", "renamed", "jsonl", "parquet"],
)
def test_a_table_is_told_again_however_it_comes_and_is_read(
    desk: Desk, name: str, data: str, said: dict[str, Any]
) -> None:
    known = desk.take("t.csv", FEW).prepared.cells_digest
    frame = pl.read_csv(FEW.encode(), try_parse_dates=False)
    written: dict[str, bytes] = {"t.jsonl": frame.write_ndjson().encode()}
    with io.BytesIO() as file:
        frame[::-1].select(frame.columns[::-1]).write_parquet(file)  # other orders of rows and columns
        written["t.parquet"] = file.getvalue()
    if "unit_column" in said:
        data = data.replace("-2,,y", "-2,7,y")
        known = desk.take("t.csv", data).prepared.cells_digest
    if "text_column" in said:
        said = {**said, "dataset_type": "text_classification", "target": "y"}
    assert desk.take(name, data or written[name], **said).prepared.cells_digest == known


@pytest.mark.parametrize(
    ("old", "new"), [("0.5", "0.6"), ("x,", "z,"), ("3,", ","), ("\n1,", "\n1,9,x,,true\n1,")]
)
def test_another_cell_or_row_makes_another_table(desk: Desk, old: str, new: str) -> None:
    first, second = (desk.take("t.csv", data).prepared for data in (FEW, FEW.replace(old, new, 1)))
    assert first.cells_digest != second.cells_digest


def test_long_values_are_neither_told_nor_learned(desk: Desk) -> None:
    lines = [f"{number}{'z' * 200},{number % 2}" for number in range(20)]
    for privacy in ("public", "protected"):
        found = desk.take("t.csv", "\n".join(["a,y", *lines]), privacy=privacy).prepared
        assert len(json.dumps([found.inspection.as_json()["columns"], found.encoding.as_json()])) < 2_000


def test_what_a_profile_tells_of_all_columns_is_bounded(desk: Desk) -> None:
    names = [f"c{place}" for place in range(400)]
    rows = [[f"{'v' * 60}{place}-{row}" for place in range(400)] + [str(row % 2)] for row in range(60)]
    lines = [",".join([*names, "y"]), *(",".join(row) for row in rows)]
    found = desk.take("t.csv", "\n".join(lines)).prepared
    assert len(json.dumps(found.inspection.as_json())) < 1_000_000
    assert found.inspection.columns[0].values is not None
