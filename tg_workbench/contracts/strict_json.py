"""JSON as strictly as it has to be read: what no database and no answer could hold is refused at the door.

Refused: NaN and Infinity (also as 1e999), lone surrogates, NUL characters, integers beyond 64 bits, and
nesting deeper than 32. Without this each of them becomes an internal error somewhere below. Bodies are
bounded too: numbers as text cost twenty times their size in memory, and seconds in which nobody else is
served, so many numbers have to come as tensors.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from tg_workbench.contracts.failures import BodyTooLarge
from tg_workbench.contracts.heavy import off_loop

DEEPEST = 32
MOST_BYTES = 8 << 20
MOST_CONTAINERS = 2_000_000
TOO_LARGE = (
    "this is too much for JSON (8 MiB, and two million lists): send the numbers as tensors, with "
    "Content-Type: application/vnd.safetensors"
)
LEAST, MOST = -(2**63), 2**63 - 1


class StrictRequest(Request):
    """A request whose JSON is parsed by `parse`."""

    most_bytes = MOST_BYTES
    """The longest JSON that is read; a form of texts takes what any body may have."""

    async def json(self) -> Any:
        """The body. Raises BodyTooLarge, and JSONDecodeError without the text."""
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) > self.most_bytes or body.count(b"[") + body.count(b"{") > MOST_CONTAINERS:
                raise BodyTooLarge(TOO_LARGE)
            self._json = await off_loop(self, parse, body)
        return self._json


def parse(body: bytes) -> Any:
    """The value in `body`. Raises JSONDecodeError, whose message says what is wrong and repeats nothing."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as failure:
        raise _refusal(f"not valid JSON: {failure}") from None
    _check([value], 0)
    return value


def _check(container: Any, depth: int) -> None:
    """Walk containers; numbers and texts are checked in bulk, for a batch may hold a million of them."""
    if depth > DEEPEST:
        raise _refusal(f"nested deeper than {DEEPEST} levels")
    items = container
    if isinstance(container, dict):
        items = list(container.values())
        _check_texts(container)
    kinds = set(map(type, items))
    if int in kinds:
        _check_whole([item for item in items if type(item) is int])
    if float in kinds and not all(map(math.isfinite, (item for item in items if type(item) is float))):
        raise _refusal("a number is too large")
    if str in kinds:
        _check_texts(item for item in items if type(item) is str)
    if dict in kinds or list in kinds:
        for item in items:
            if type(item) is list or type(item) is dict:
                _check(item, depth + 1)


def _check_whole(numbers: list[int]) -> None:
    if min(numbers) < LEAST or max(numbers) > MOST:
        raise _refusal("a whole number does not fit into 64 bits")


def _check_texts(texts: Any) -> None:
    if any("\0" in text for text in texts):
        raise _refusal("a text holds a NUL character")


def _refusal(what: str) -> json.JSONDecodeError:
    return json.JSONDecodeError(what, "", 0)
