"""Contents: the bytes of a dataset, checked and described without NumPy, because the API reads them.

Checking takes a second for 64 MB, so it is done before any transaction is opened and off the event loop.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import InvalidRequest

COLUMNS = frozenset({"input_ids", "attention_mask", "labels", "features", "targets"})
"""What the tensors of a dataset or a batch may be named."""
LARGEST_HEADER_BYTES = 1_000_000
PIECE_BYTES = 1 << 20
FLOATS = {"F64": "d", "F32": "f"}
NUMBERS = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class Content:
    """A dataset's bytes, and what is in them. Made by `of_tensors` and `of_texts`."""

    data: bytes
    format: str
    """`safetensors` (tensors `features`, `targets` or `input_ids` …) or `texts` (a JSON list of strings)."""
    size: int
    """How many rows or texts."""
    tensors: dict[str, dict[str, Any]] | None
    digest: str
    """The SHA-256 of the bytes, in hex."""

    @classmethod
    def of_tensors(cls, data: bytes) -> Content:
        """Tensors in safetensors bytes. Raises InvalidRequest."""
        tensors = read_header(data)
        if not tensors.keys() <= COLUMNS:
            raise InvalidRequest(f"the tensors of a dataset are named {', '.join(sorted(COLUMNS))}")
        if not ({"features", "targets"} <= tensors.keys() or "input_ids" in tensors):
            raise InvalidRequest("a dataset holds tensors named features and targets, or input_ids")
        sizes = {tensor["shape"][0] if tensor["shape"] else 0 for tensor in tensors.values()}
        if len(sizes) != 1 or sizes == {0}:
            raise InvalidRequest("every tensor must have the same number of rows, and at least one")
        for name in tensors:
            if not _is_finite(data, name):
                raise InvalidRequest(f"{name} hold NaN or infinity: fill or drop what is missing")
        return cls(data, "safetensors", sizes.pop(), tensors, hashlib.sha256(data).hexdigest())

    @classmethod
    def of_texts(cls, data: bytes) -> Content:
        """A JSON list of texts. Raises InvalidRequest."""
        texts = json.loads(data)
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text for text in texts)
        ):
            raise InvalidRequest("texts must be a list of strings, at least one and none empty")
        return cls(data, "texts", len(texts), None, hashlib.sha256(data).hexdigest())


def read_header(content: bytes) -> dict[str, dict[str, Any]]:
    """Names, shapes and dtypes in safetensors bytes, read without loading a tensor. Raises InvalidRequest.

    As strict as the library that loads them later: the tensors lie side by side and fill the file.
    Source: the safetensors format (8 bytes of length, JSON header, then the bytes of the tensors).
    """
    wrong = InvalidRequest("the body is not a safetensors file")
    if len(content) < 8:
        raise wrong
    (length,) = struct.unpack("<Q", content[:8])
    if not 2 <= length <= min(LARGEST_HEADER_BYTES, len(content) - 8):
        raise wrong
    try:
        header = json.loads(content[8 : 8 + length])
        _check_notes(header.pop("__metadata__", {}))
        tensors = {name: _checked(entry) for name, entry in header.items()}
        _check_places([entry["data_offsets"] for entry in header.values()], len(content) - 8 - length)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as failure:
        raise wrong from failure
    return tensors


def _check_notes(notes: dict[str, str]) -> None:
    if not all(isinstance(text, str) for text in notes.values()):
        raise ValueError("notes are texts")


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    start, end = entry["data_offsets"]
    shape: list[int] = entry["shape"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError("shapes and places are whole numbers")
    if entry["dtype"] not in NUMBERS or math.prod(shape) * NUMBERS[entry["dtype"]] != end - start:
        raise ValueError("size and shape disagree, or a type we do not take")
    return {"shape": shape, "dtype": entry["dtype"]}


def _check_places(places: list[list[int]], room: int) -> None:
    at = 0
    for start, end in sorted(places):
        if start != at:
            raise ValueError("a gap, or tensors that overlap")
        at = end
    if at != room:
        raise ValueError("bytes that belong to no tensor")


def _is_finite(content: bytes, name: str) -> bool:
    """Whether a tensor holds finite numbers only: a sum keeps any NaN or infinity."""
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])[name]
    if entry["dtype"] not in FLOATS:
        return True
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    for piece in range(start, end, PIECE_BYTES):
        numbers: array[float] = array(FLOATS[entry["dtype"]], content[piece : min(end, piece + PIECE_BYTES)])
        if sys.byteorder == "big":
            numbers.byteswap()
        if numbers.typecode == "d":
            numbers = array("f", numbers)  # what training computes with: 1e300 is infinite there
        if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
            return False
    return True
