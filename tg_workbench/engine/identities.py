"""Whom the examples of a batch are about: the ids that a caller sends along, checked and shortened.

An id is a whole number or a text. Only digests of them are kept: enough to tell two of them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tg_workbench.engine.batches import Batch, digests
from tg_workbench.errors import InvalidBatch

COLUMN_OF = {"record": "record_ids", "unit": "unit_ids"}
"""Where the ids are, by the unit of privacy that they tell."""
KEY_BYTES = 8
"""Two of a million ids share a key by a chance of 1 in 37 million; they then count as one, who pays more."""
LONGEST_ID = 256
Ids = np.ndarray[Any, np.dtype[Any]]


def read_ids(batch: Mapping[str, Any], unit: str, count: int) -> Ids:
    """The id of each of `count` examples, whole numbers or texts. Raises InvalidBatch."""
    column = COLUMN_OF[unit]
    if batch.get(column) is None:
        raise InvalidBatch(f"ε is counted by {column} here: send one for each example")
    given: Ids | Any = batch[column]
    if not (isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "iu"):
        values: list[Any] = given.tolist() if hasattr(given, "tolist") else list(given)
        if not all(map(_is_id, values)):
            raise InvalidBatch(f"{column} must be whole numbers, or texts of 1 to {LONGEST_ID} characters")
        given = np.asarray([str(value) for value in values], dtype=str)
    if len(given) != count:
        raise InvalidBatch(f"{column} must hold one id for each of the {count} examples")
    ids: Ids = given
    return ids


def keys_of(ids: Ids) -> list[bytes]:
    """A digest for each id, `KEY_BYTES` long: the same for 7 and for "7", and for a text and its number."""
    numbers = (_number(value).to_bytes(8, "little", signed=True) for value in ids.tolist())
    return [hashlib.blake2b(number, digest_size=KEY_BYTES).digest() for number in numbers]


def _number(value: int | str) -> int:
    """A text is what it writes, if that is a number of 64 bits, or its digest: as the SDK sends it."""
    if isinstance(value, int):
        return value
    if value.removeprefix("-").isdecimal() and str(int(value)) == value and abs(int(value)) < 2**63:
        return int(value)
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True)


def numbered(ids: Ids) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The number of each example's unit, from 0 on."""
    numbers: np.ndarray[Any, np.dtype[np.int64]] = np.unique(ids, return_inverse=True)[1]
    return numbers.reshape(-1).astype(np.int64)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool)


def identified(
    read: Batch, batch: Mapping[str, Any], unit: str | None
) -> tuple[Batch, Callable[[], tuple[list[bytes], str]]]:
    """A batch with its units, and how to tell whom it is about: their keys, and what one of them is.

    `unit` is that of privacy; None: there is no privacy, and ids say nothing. Raises InvalidBatch.
    """
    if unit in (None, "example"):
        if unit is not None and any(batch.get(column) is not None for column in COLUMN_OF.values()):
            raise InvalidBatch(
                "this client's ε is about single examples: create it with dp_config.unit record or unit to "
                "count by ids"
            )
        return read, lambda: (digests(read), "an example")
    ids = read_ids(batch, str(unit), read.size)
    if unit == "record":
        return read, lambda: (keys_of(ids), "a record")
    return replace(read, units=torch.from_numpy(numbered(ids))), lambda: (keys_of(np.unique(ids)), "a unit")
