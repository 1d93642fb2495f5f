"""The number that stands for a record's or a unit's id: an id that is a text travels as one."""

from __future__ import annotations

import hashlib


def id_number(value: int | str) -> int:
    """A whole number of 64 bits: itself, that which a text writes (7 and "7" are one), or a text's digest.

    The workbench does the same to the texts it gets (`engine.identities`; a test compares the two).
    """
    if isinstance(value, int):
        return value
    if value.removeprefix("-").isdecimal() and str(int(value)) == value and abs(int(value)) < 2**63:
        return int(value)
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True)
