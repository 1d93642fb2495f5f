"""Redaction: what looks like a secret is struck out of a line, by its name or by its form.

Everything becomes text first, so a secret is found whatever held it. An exception becomes its type alone,
because its text may hold a row. Rather too much is struck out than too little, but never a path of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

STRUCK_OUT = "[redacted]"
MOST_TEXT = 4000
MOST_MEMBERS = 200
_DEEPEST = 6
_NAMES = (
    r"(?:api[-_]?key|authorization|passwords?|passphrases?|passwd|pwd|secret[a-z_-]{0,24}|tokens?|cookies?"
    r"|signatures?|credentials?|private[-_]?key)"
)
_SECRET_NAMES = re.compile(rf"(?i){_NAMES}$")
_SECRETS = re.compile(
    r"(?<![/a-z0-9])(?:tml-)?tgw[-.][a-z0-9._-]{8,}"  # our keys; a folder /tmp/tgw-… is none
    r"|(?:tml-)?tgw[-.][a-z0-9._-]{20,}"
    r"|eyJ[a-z0-9_-]{8,}\.[a-z0-9_.-]+"  # a JWT
    r"|tg[rio]_[a-z0-9_-]{8,}"  # refresh tokens, invitations, secrets of applications
    r"|whsec_[a-z0-9+/=_-]{8,}"  # a webhook's secret
    r"|\b(?:sha256=|v1,)[a-z0-9+/=]{16,}",  # a signature
    re.IGNORECASE,
)
_NAMED = re.compile(  # password=, X-API-Key:, "token": "…, and the same inside a JSON string
    rf"({_NAMES}\\{{0,3}}[\"']?\s{{0,8}}[:=]\s{{0,8}}(?:(?:bearer|basic)\s{{1,8}})?)(\\{{0,3}}[\"'])?"
    r"(?(2)(?:(?!\2).){0,999}|[^\s&]+)",
    re.IGNORECASE,
)
_AFTER_A_SIGN = re.compile(
    r"(\b(?:bearer|basic)\s{1,8})[a-z0-9._~+/=-]{6,}"  # whatever stands in Authorization
    r"|(://)[^\s\"'<>]{1,512}(?=@)",  # a URL's user and password, whatever is in them
    re.IGNORECASE,
)
_WORTH_A_LOOK = re.compile(r"[:=]|tgw|tg[rio]_|eyj|whsec_|v1,|bearer|basic", re.IGNORECASE)


def struck_out(name: str, value: Any, depth: int = 0) -> Any:
    """The value of that name, as it may be written."""
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAMES.search(name):
        return STRUCK_OUT
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, int | float):
        return value
    if depth >= _DEEPEST:
        return STRUCK_OUT
    if isinstance(value, dict):
        members = islice(value.items(), MOST_MEMBERS)
        return {_of_text(str(key)): struck_out(str(key), inner, depth + 1) for key, inner in members}
    if isinstance(value, list | tuple | set | frozenset):
        return _of_all(value, depth + 1)
    return _of_text(_as_text(value))


def _of_all(values: Iterable[Any], depth: int) -> list[Any]:
    return [struck_out("", inner, depth) for inner in islice(values, MOST_MEMBERS)]


def _as_text(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:MOST_TEXT]).decode("utf-8", "replace")
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def _of_text(text: str) -> str:
    text = text[:MOST_TEXT]
    if _WORTH_A_LOOK.search(text) is None:
        return text
    text = _NAMED.sub(_keep_the_beginning, _SECRETS.sub(STRUCK_OUT, text))
    return _AFTER_A_SIGN.sub(_keep_the_beginning, text)


def _keep_the_beginning(found: re.Match[str]) -> str:
    return f"{''.join(part for part in found.groups() if part)}{STRUCK_OUT}"
