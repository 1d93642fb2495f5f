"""A version of something that is named: `name:2`, or `name_v2`."""

from __future__ import annotations

import re

_VERSION = re.compile(r"(.+)(?::|_v)([0-9]{1,9})", re.DOTALL)


def name_and_version(key: str) -> tuple[str, int] | None:
    """The name and the number of a version; None where the key names none."""
    parts = _VERSION.fullmatch(key)
    return None if parts is None else (parts[1], int(parts[2]))
