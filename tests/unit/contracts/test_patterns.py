"""What a text has to be is said in words, and not as a regular expression."""

from __future__ import annotations

import pytest

from tg_workbench.contracts.patterns import said


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"^[A-Za-z0-9._:-]{1,128}$", "must be 1 to 128 of letters, digits and . _ : -"),
        (
            r"^[a-z][a-z0-9._-]{0,63}$",
            "must be 1 to 64 of small letters, digits and . _ -, beginning with one of small letters",
        ),
        (r"^[0-9a-f]{64}$", "as it was"),
        (r"^[A-Za-z0-9+/]{4412}$", "must be 4412 of letters, digits and + /"),
        (r"^[^\x00]*$", "must not hold a NUL character"),
        (r"\S", "must hold more than spaces"),
        (r"(a|b)+", "as it was"),
    ],
)
def test_a_pattern_is_said_in_words(pattern: str, words: str) -> None:
    assert said(pattern, "as it was") == words
