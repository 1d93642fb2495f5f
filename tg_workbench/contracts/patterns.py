"""Patterns in words: what a text has to be, for whoever sent another."""

from __future__ import annotations

import re

NAMED = {
    r"^[^\x00]*$": "must not hold a NUL character",
    r"\S": "must hold more than spaces",
}
_KINDS = {
    "A-Za-z": "letters",
    "a-z": "small letters",
    "A-Z": "capital letters",
    "0-9": "digits",
    " ": "spaces",
}
_BEFORE = "String should match pattern '"
_PLAIN = re.compile(
    r"\^(?:\[(?P<first>[^]^]+)\])?\[(?P<rest>[^]^]+)\]\{(?:(?P<least>\d+),)?(?P<most>\d+)\}\$"
)


def said(message: str) -> str:
    """Pydantic's message about a pattern as a sentence; as it is, where it is none that can be said.

    Taken from the message: errors come here without their context, which may hold the request's input.
    """
    pattern = message.removeprefix(_BEFORE).removesuffix("'")
    if pattern in NAMED:
        return NAMED[pattern]
    found = _PLAIN.fullmatch(pattern)
    if found is None:
        return message
    first, most = found["first"], int(found["most"])
    if re.search(r"\w-\w", _left(found["rest"]) + _left(first or "")):
        return message
    least = int(found["least"] or most)
    if first is not None:
        least, most = least + 1, most + 1
    bounds = str(most) if least == most else f"{least} to {most}"
    begins = f", beginning with one of {_kinds(first)}" if first is not None else ""
    return f"must be {bounds} of {_kinds(found['rest'])}{begins}"


def _left(letters: str) -> str:
    """What of a class has no word of its own."""
    for part in _KINDS:
        letters = letters.replace(part, "")
    return letters


def _kinds(letters: str) -> str:
    """The letters of a class: `letters, digits and . _ -`."""
    words: list[str] = []
    left = letters
    for part, word in _KINDS.items():
        if part in left:
            left, words = left.replace(part, ""), [*words, word]
    words += [" ".join(left)] if left else []
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
