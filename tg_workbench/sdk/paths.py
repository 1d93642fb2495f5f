"""The path of one thing, by its id. What can be no id, a slash or nothing at all, is the id of nothing."""

from __future__ import annotations

import re

from tg_workbench.errors import NotFound

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def path_of_one(base: str, key: object, missing: type[NotFound]) -> str:
    """The path below `base`. Raises `missing`, which needs no arguments, without asking anybody."""
    if not isinstance(key, str) or not _ID.fullmatch(key) or not key.strip("."):
        raise missing
    return f"{base}/{key}"
