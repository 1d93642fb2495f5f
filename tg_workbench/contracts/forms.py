"""Forms as browsers and OAuth clients send them: each name once, nothing that no text may hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import Request

from tg_workbench.contracts.bodies import media_type
from tg_workbench.errors import InvalidRequest

URLENCODED = "application/x-www-form-urlencoded"
MOST_FIELDS, MOST_BYTES, LONGEST = 32, 32 << 10, 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def read_form(request: Request) -> dict[str, str]:
    """The form in a body. A field without a value is no field (RFC 6749, 3.1). Raises InvalidRequest."""
    if media_type(request) != URLENCODED:
        raise InvalidRequest(f"send a form, with Content-Type: {URLENCODED}")
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise InvalidRequest(f"a form may hold {MOST_BYTES} bytes")
    try:
        return once_each(parse_qsl(body.decode("ascii"), max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError:
        raise InvalidRequest("this is not a form of texts in UTF-8, with percent signs") from None


def once_each(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fields by name. Raises InvalidRequest when one comes twice, is too long or holds control characters."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidRequest("a field comes twice")
        if len(value) > LONGEST or _CONTROL.search(value):
            raise InvalidRequest(f"a field holds up to {LONGEST} characters, and no control characters")
        if value:
            fields[name] = value
    return fields
