"""Bad CSV: each mistake is told by line or column, in our words, and no value of the file is in them."""

from __future__ import annotations

import pytest

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits

WIDE = ",".join(f"c{n}" for n in range(10_000))


@pytest.mark.parametrize(
    ("data", "where", "problem"),
    [
        ("a,b,y\n1,2,0\n3,1\n", "line 3", "has 2 values; the header has 3"),
        ("a,b,y\n1,2,0\n3,4,5,6\n", "line 3", "has 4 values; the header has 3"),
        ('a,b,y\n"1\n",2,0\n3,1\n', "line 4", "has 2 values; the header has 3"),
        ("a,b,y\n1,2,0\na,b,y\n", "line 3", "is the header once more"),
        ("a,b,a\n1,2,0\n", "column 3", "has the same name as column 1"),
        ("a,,y\n1,2,0\n", "column 2", "has no name"),
        ("1.5,2,0\n2.5,3,1\n", "line 1", "names of the columns"),
        ("5,2\n2,3\n", "line 1", "names of the columns"),
        (",,\n2,3,4\n", "line 1", "no names of columns"),
        ("a,y\n", "file", "a header and no rows"),
        ("", "file", "is empty"),
        (" \n\n", "file", "is empty"),
        ("a,y\n1,0\nx\0,1\n", "line 3", "holds a NUL character"),
        ("a\0,y\n1,0\n", "line 1", "holds a NUL character"),
        (b"a,y\n1,0\n\xe9,1\n", "line 3", "is not UTF-8 at byte 8 of the file"),
        (b"\xff\xfea\x00,\x00y\x00\n\x001\x00,", "file", "is not UTF-16-LE"),
        ('a,y\n"1,0\n2,1\n', "line 3", "never closed"),
        ('a,y\n"1"2,0\n', "line 2", "never closed, or text after"),
        ("a,y\r1,0\r2,1\r", "line 1", "bare carriage return"),
        (f"{WIDE}\n{WIDE}\n", "file", "has more than 4,096 columns"),
        (f"{'n' * 200},y\n1,0\n", "column 1", "more than 128 characters"),
        (f"a,y\n{'1' * 1_100_000},0\n", "line 2", "has a value of more than 1,048,576 characters"),
        (f"a,y\n{'1' * 4_300_000},0\n", "line 2", "is longer than 4,194,304 bytes"),
    ],
    ids=range(23),
)
def test_a_mistake_is_told_by_its_place(desk: Desk, data: bytes | str, where: str, problem: str) -> None:
    found = desk.refuse("t.csv", data)
    assert (found[0]["where"], len(found)) == (where, 1)
    assert problem in found[0]["problem"]


def test_twenty_mistakes_are_told_at_most(desk: Desk) -> None:
    found = desk.refuse("t.csv", "a,y\n" + "1,2,3\n" * 50)
    assert [problem["where"] for problem in found] == [f"line {n}" for n in range(2, 22)]


def test_a_mistake_far_into_a_long_file_has_the_right_line(desk: Desk) -> None:
    lines = [f"{n},{n % 2}\n" for n in range(5_000)]
    lines[4_000] = "1\n"
    small = Limits(chunk_bytes=1_000)
    (found,) = desk.refuse("t.csv", "a,y\n" + "".join(lines), small)
    assert found["where"] == "line 4002"


def test_rows_are_counted_against_their_bound(desk: Desk) -> None:
    text = "a,y\n1,0\n2,1\n3,1\n"
    assert desk.take("t.csv", text, Limits(rows=3)).prepared.size == 3
    assert desk.refuse("t.csv", text, Limits(rows=2))[0]["problem"] == "has more than 2 rows"


@pytest.mark.parametrize(
    "text",
    [
        "a,y\n1,0\n2,1\n",
        "a,y\r\n1,0\r\n2,1\r\n",
        "a,y\n1,0\n\n2,1",
        '"a","y"\n"1",0\n2,"1"\n',
        "a;y\n1;0\n2;1\n",
        "a\ty\n1\t0\n2\t1\n",
        "﻿a,y\n1,0\n2,1\n",
        ",a,y\n0,1,0\n1,2,1\n",
        "a , y\n 1 , 0\n 2 , 1\n",
        "\n\na,y\n1,0\n2,1\n",
    ],
    ids=range(10),
)
def test_one_table_is_read_however_it_is_written(desk: Desk, text: str) -> None:
    outcome = desk.take("t.csv", text)
    assert outcome.prepared.encoding.inputs == ("a",)
    assert outcome.tensors["targets"].tolist() == [0, 1]
    assert outcome.tensors["features"].round(3).tolist() == [[pytest.approx(0.881)], [pytest.approx(1.444)]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed(desk: Desk, encoding: str) -> None:
    found = desk.take("t.csv", "a,y\né,ü\nà,ö\n".encode(encoding)).prepared
    assert found.encoding.class_names == ("ö", "ü")


def test_quoted_values_may_hold_anything(desk: Desk) -> None:
    text = 'a,y\n"x, ""y""\nz",0\n"\u2028",1\n'
    small = Limits(chunk_bytes=8)
    values = desk.take("t.csv", text, small, privacy="public").prepared.inspection.columns[0].values
    assert values == ('x, "y"\nz',)


def test_small_pieces_and_large_ones_give_the_same(desk: Desk) -> None:
    rows = [f'{n},"w{n % 3}",{n % 2}\n' if n % 7 else f"{n},w,{n % 2}\n\n" for n in range(300)]
    text = "a,b,y\n" + "".join(rows)
    digests = {
        desk.take("t.csv", text, Limits(chunk_bytes=size)).prepared.digest for size in (10, 99, 1_000, 10**6)
    }
    assert len(digests) == 1
