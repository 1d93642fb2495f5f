"""The number that stands for a record's or a unit's id: an id that is a text travels as one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from tg_workbench.errors import InvalidBatch

_LARGEST = 2**63


def id_number(value: Any) -> int:
    """A whole number of 64 bits: itself, that which a text writes (7 and "7" are one), or a text's digest.

    The workbench does the same to the texts it gets (`engine.identities`; a test compares the two). Raises
    InvalidBatch.
    """
    if isinstance(value, str) and value:
        if (
            value.removeprefix("-").isdecimal()
            and str(int(value)) == value
            and -_LARGEST <= int(value) < _LARGEST
        ):
            return int(value)
        digest = hashlib.blake2b(value.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)
    if isinstance(value, Integral) and not isinstance(value, bool) and -_LARGEST <= int(value) < _LARGEST:
        return int(value)
    raise InvalidBatch("ids are whole numbers of 64 bits or texts, one for each row")


def id_numbers(ids: Any) -> list[int]:
    """The number of each id. Raises InvalidBatch."""
    return [id_number(value) for value in _listed(ids)]


def numbered(ids: Any) -> list[int]:
    """Units by number, as they first appear: what they are called stays here. Raises InvalidBatch."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(id_number(value), len(numbers)) for value in _listed(ids)]


def _listed(ids: Any) -> Iterable[Any]:
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise InvalidBatch("ids are whole numbers of 64 bits or texts, one for each row")
    return values
