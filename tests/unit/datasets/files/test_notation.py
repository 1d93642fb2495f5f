"""Numbers as spreadsheets of other countries write them: the same rows, or a warning."""

from __future__ import annotations

import pytest

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits
from tg_workbench.errors import InvalidBatch

POINTS = "weight,code,y\n1076.5,1,0\n-2.25,2,1\n1e3,3,0\n,4,1\n"


@pytest.mark.parametrize(
    "text",
    [
        "weight;code;y\n1076,5;1;0\n-2,25;2;1\n1e3;3;0\n;4;1\n",
        "weight;code;y\n1.076,5;1;0\n-2,25;2;1\n1.000;3;0\nN/A;4;1\n",
        "weight\tcode\ty\r\n1076,50\t1\t0\r\n -2,25\t2\t1\r\n1,0e3\t3\t0\r\n\t4\t1\r\n",
        'sep=;\nweight;code;y\n"1076,5";1;0\n-2,25;2;1\n1e3;3;0\n;4;1\n',
        '﻿"sep=;"\r\nweight;code;y\r\n1076,5;1;0\r\n-2,25;2;1\r\n1e3;3;0\r\n;4;1\r\n',
        "sep=|\nweight|code|y\n1076,5|1|0\n-2,25|2|1\n1e3|3|0\n|4|1\n",
    ],
    ids=["commas", "thousands", "tabs", "named", "named by a spreadsheet", "bars"],
)
def test_the_same_rows_are_the_same_table_with_commas_for_points(desk: Desk, text: str) -> None:
    points = desk.take("p.csv", POINTS).prepared
    commas = desk.take("c.csv", text).prepared
    assert (commas.cells_digest, commas.rows_digest) == (points.cells_digest, points.rows_digest)
    assert commas.encoding == points.encoding
    assert "numbers have a decimal comma in weight: 1,5 is read as 1.5" in commas.inspection.warnings


def test_a_column_of_an_index_beside_them_changes_nothing(desk: Desk) -> None:
    found = desk.take("c.csv", ";weight;y\n0;1,5;a\n1;2,5;b\n").prepared.inspection
    assert [(column.name, column.type, column.maximum) for column in found.columns[:1]] == [
        ("weight", "number", 2.5)
    ]


def test_a_word_among_them_is_a_mistake_with_its_place(desk: Desk) -> None:
    lines = [f"{n},5;{n % 2}" for n in range(30)] + ["about 3;1"] + ["4,5;0"] * 3
    (problem,) = desk.refuse("c.csv", "a;y\n" + "\n".join(lines), Limits(chunk_bytes=64, rows=50))
    assert problem["where"] in ("row 31, column a", "row 31 (line 32), column a")


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        (["12,5 %", "1,5 %"], True),
        (["€ 3,50", "€ 12,00"], True),
        (["1 234", "5 678"], True),
        (["31.12.24", "1.2.23"], True),
        (["12/31/2024", "1/2/2023"], True),
        (["1,234.50 EUR", "2.00 EUR"], True),
        (["2024-12-31", "2023-01-01"], False),
        (["31.12.2024", "1.2.2023"], False),
        (["12-345", "67-890"], False),
        (["3b", "4a"], False),
        (["1.5", "about 2.5"], False),
    ],
    ids=range(11),
)
def test_what_only_looks_like_a_number_or_date_is_warned_of(
    desk: Desk, values: list[str], *, warned: bool
) -> None:
    text = "a,y\n" + "".join(f'"{values[n % 2]}",{n % 2}\n' for n in range(20))
    warnings = desk.take("t.csv", text).prepared.inspection.warnings
    assert any("column(s) a look like numbers or dates" in warning for warning in warnings) is warned


def test_nobody_is_warned_of_what_was_declared(desk: Desk) -> None:
    text = "a,y\n" + '"1,5",0\n"2,5",1\n' * 10
    said = desk.take("t.csv", text, categories={"a": ["1,5", "2,5"]}).prepared.inspection.warnings
    assert not any("look like" in warning for warning in said)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("cells;dose;y\n950;1,5;0\n1.234;2,5;1\n-12.500;3;0\n", -12_500),
        ("cells;dose;y\n950;1.5;0\n1.234;2.5;1\n-12.500.000;3;0\n", -12_500_000),
    ],
    ids=["beside a decimal comma", "two points in a number"],
)
def test_points_between_thousands_are_no_decimal_points(desk: Desk, text: str, last: int) -> None:
    plain = f"cells,dose,y\n950,1.5,0\n1234,2.5,1\n{last},3,0\n"
    found, same = (desk.take(name, data).prepared for name, data in (("g.csv", text), ("p.csv", plain)))
    assert (found.cells_digest, found.rows_digest) == (same.cells_digest, same.rows_digest)
    assert "points are between thousands in cells: 1.234 is read as 1234" in found.inspection.warnings


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("a;y\n950;0\n1.234;1\n12.500;0\n", True),
        (";a;y\n1;950;0\n2;1.234;1\n3;12.500;0\n", True),
        ("a;y\n950;0\n1.234;1\n12.5;0\n", False),
        ("a;y\n0.950;0\n1.234;1\n12.500;0\n", False),
        ("a,y\n950,0\n1.234,1\n12.500,0\n", False),
        ("a;y\n" + "1.234;0\n950;1\n" * 9 + "0.5;1\n1.234;1\n", False),
    ],
    ids=["alone", "beside an index", "one decimal", "a leading nought", "commas cut", "one in many"],
)
def test_points_that_may_be_between_thousands_are_warned_of(desk: Desk, text: str, *, warned: bool) -> None:
    found = desk.take("t.csv", text, privacy="public").prepared.inspection
    maximum = next(column.maximum for column in found.columns if column.name == "a")
    assert maximum == 950.0 or "0.950" in text
    assert any("in a the points may be between thousands" in said for said in found.warnings) is warned


POINTED = "seen;y\n31.12.2024;a\n1.2.2023 7:30;b\n01.02.2023 07:30:15;a\n;b\n"
DASHED = "seen,y\n2024-12-31,a\n2023-02-01 07:30,b\n2023-02-01T08:30:15+01:00,a\n,b\n"


def test_dates_with_points_are_the_dates_with_dashes(desk: Desk) -> None:
    pointed, dashed = (desk.take("t.csv", text).prepared for text in (POINTED, DASHED))
    assert pointed.inspection.columns[0].type == "date"
    assert pointed.encoding == dashed.encoding
    assert (pointed.rows_digest, pointed.cells_digest) == (dashed.rows_digest, dashed.cells_digest)


@pytest.mark.parametrize(
    "word", ["31.02.2024", "31.12.24", "2024.12.31", "12/31/2024", "1.1.2024 25:00", "x"]
)
def test_a_word_that_is_no_date_is_refused_where_dates_were_learned(desk: Desk, word: str) -> None:
    encoding = desk.take("t.csv", POINTED).prepared.encoding
    assert encoding.features([["31.12.2024"]]).tolist() == encoding.features([["2024-12-31"]]).tolist()
    with pytest.raises(InvalidBatch, match="row 1, column seen: must be a date as YYYY-MM-DD or"):
        encoding.features([[word]])


@pytest.mark.parametrize(
    ("words", "warned"),
    [(["n.d."] * 5, True), (["<5"] * 5, True), (["n.d."] * 20, False), (["", "NA"], False)],
)
def test_numbers_that_are_read_as_words_for_some_words_are_warned_of(
    desk: Desk, words: list[str], *, warned: bool
) -> None:
    text = "crp,y\n" + "".join(f"{word},{n % 2}\n" for n, word in enumerate([*map(str, range(15)), *words]))
    for privacy in ("protected", "public"):
        warnings = desk.take("t.csv", text, privacy=privacy).prepared.inspection.warnings
        found = [line for line in warnings if "column(s) crp hold numbers and words" in line]
        assert bool(found) is warned
    declared = {"crp": (*map(str, range(15)), *{word for word in words if word not in ("", "NA")})}
    told = desk.take("t.csv", text, categories=declared).prepared.inspection.warnings
    assert not any("numbers and words" in line for line in told)


@pytest.mark.parametrize(("first", "warned"), [("01067", True), ("0", False), ("0.5", False), ("10", False)])
def test_numbers_with_zeros_before_them_are_warned_of(desk: Desk, first: str, *, warned: bool) -> None:
    text = f"plz,y\n{first},0\n" + "".join(f"{80331 + n},{n % 2}\n" for n in range(20))
    told = desk.take("t.csv", text).prepared.inspection.warnings
    assert any("column(s) plz hold numbers with zeros before them" in line for line in told) is warned
    names = (first, *(str(80331 + n) for n in range(20)))
    taken = desk.take("t.csv", text, categories={"plz": names}).prepared
    assert taken.inspection.columns[0].type == "category"
    assert not any("zeros" in line for line in taken.inspection.warnings)
