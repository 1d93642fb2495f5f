"""Numbers as spreadsheets of other countries write them: the same rows, or a warning."""

from __future__ import annotations

import pytest

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits

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
        (["31.12.2024", "1.2.2023"], True),
        (["12/31/2024", "1/2/2023"], True),
        (["1,234.50 EUR", "2.00 EUR"], True),
        (["2024-12-31", "2023-01-01"], False),
        (["12-345", "67-890"], False),
        (["3b", "4a"], False),
        (["1.5", "about 2.5"], False),
    ],
    ids=range(10),
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
