"""Whom the examples of a batch are about: the ids that a caller sends along, checked and shortened.

An id is a whole number or a text, and a person has to be spelled alike each time: "a" and " a" are two.
Pitfalls: the keys that are kept are digests without a secret. They tell people apart; whoever has the
database can try ids out on them.
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
LARGEST_ID = 2**63
Ids = np.ndarray[Any, np.dtype[np.int64]]


def read_ids(batch: Mapping[str, Any], unit: str, count: int) -> Ids:
    """The number of each of `count` examples' id. Raises InvalidBatch."""
    column = COLUMN_OF[unit]
    given = batch.get(column)
    if given is None:
        raise InvalidBatch(f"ε is counted by {column} here: send one for each example")
    if np.ndim(given) != 1 or len(given) != count:
        raise InvalidBatch(f"{column} must hold one id for each of the {count} examples")
    values: list[Any] = given.tolist() if hasattr(given, "tolist") else list(given)
    if not all(map(_is_id, values)):
        raise InvalidBatch(
            f"{column} must be whole numbers of 64 bits, or texts of 1 to {LONGEST_ID} characters"
        )
    return np.fromiter(map(_number, values), np.int64, len(values))


def keys_of(ids: Ids) -> list[bytes]:
    """A digest for each id, `KEY_BYTES` long."""
    numbers = (number.to_bytes(8, "little", signed=True) for number in ids.tolist())
    return [hashlib.blake2b(number, digest_size=KEY_BYTES).digest() for number in numbers]


def identified(
    read: Batch, batch: Mapping[str, Any], unit: str | None
) -> tuple[Batch, Callable[[], tuple[list[bytes], str]]]:
    """A batch with its units, and how to tell whom it is about: their keys, and what one of them is.

    `unit` is that of privacy; None: there is no privacy, and ids say nothing. Raises InvalidBatch.
    """
    if unit is None:
        return read, lambda: (digests(read), "an example")
    others = [column for column in COLUMN_OF.values() if column != COLUMN_OF.get(unit)]
    if any(batch.get(column) is not None for column in others):
        raise InvalidBatch(
            f"this client's ε is about the {unit}, and the batch brings other ids: create it with the "
            "dp_config.unit that they tell, or leave them out"
        )
    if unit == "example":
        return read, lambda: (digests(read), "an example")
    ids = read_ids(batch, unit, read.size)
    if unit == "record":
        return read, lambda: (keys_of(ids), "a record")
    people, numbers = np.unique(ids, return_inverse=True)
    units = torch.from_numpy(numbers.reshape(-1).astype(np.int64))
    return replace(read, units=units), lambda: (keys_of(people), "a unit")


def _number(value: int | str) -> int:
    """A text is what it writes, if that is a number of 64 bits, or its digest: as the SDK sends it."""
    if isinstance(value, int):
        return value
    if (
        value.removeprefix("-").isdecimal()
        and str(int(value)) == value
        and -LARGEST_ID <= int(value) < LARGEST_ID
    ):
        return int(value)
    digest = hashlib.blake2b(value.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_ID <= value < LARGEST_ID
