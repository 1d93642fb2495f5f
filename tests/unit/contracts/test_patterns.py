"""What a text has to be is said in words, and not as a regular expression."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

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
    told = f"String should match pattern '{pattern}'"
    assert said(told) == (told if words == "as it was" else words)


def test_pydantic_says_it_so() -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Annotated[str, Field(pattern="^[a-z]{2,9}$")]).validate_python("A")
    assert said(refused.value.errors()[0]["msg"]) == "must be 2 to 9 of small letters"
