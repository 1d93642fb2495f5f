"""JSON is read strictly, and a refusal repeats nothing of it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tg_workbench.contracts.strict_json import DEEPEST, parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_can_be_stored_is_read_as_it_is(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[-Infinity]",
        "1e999",
        '{"a": [-1e999]}',
        "9223372036854775808",
        "-9223372036854775809",
        '"\\u0000"',
        '{"\\u0000": 1}',
        '"\\ud800"',
        '{"\\udfff": 1}',
        "",
        "{",
        '{"a": 1} trailing',
        "9" * 5000,
    ],
)
def test_what_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as refusal:
        parse(text.encode())
    assert refusal.value.doc == ""


def test_the_edges_of_64_bits_are_taken() -> None:
    assert parse(b"[9223372036854775807, -9223372036854775808, true]") == [2**63 - 1, -(2**63), True]


def test_nesting_ends_at_the_deepest_level() -> None:
    parse(b"[" * DEEPEST + b"]" * DEEPEST)
    for depth in (DEEPEST + 1, 150, 100_000):
        with pytest.raises(json.JSONDecodeError):
            parse(b"[" * depth + b"]" * depth)


def test_a_large_batch_costs_no_more_than_the_standard_library() -> None:
    rows = json.dumps([[row / 7 + column for column in range(30)] for row in range(10_000)]).encode()

    def seconds(read: object) -> float:
        began = time.thread_time()
        read(rows)  # type: ignore[operator]
        return time.thread_time() - began

    pairs = [(seconds(parse), seconds(json.loads)) for _ in range(7)]
    ours, theirs = zip(*pairs, strict=True)
    assert min(ours) < 2 * min(theirs)
