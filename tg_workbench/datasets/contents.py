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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import InvalidRequest

UNIT_IDS = "unit_ids"
"""The column that says whom each row is about."""
ROWS = frozenset({"input_ids", "attention_mask", "labels", "features", "targets"})
COLUMNS = ROWS | {UNIT_IDS, "record_ids"}
"""What the tensors of a batch may be named."""
OF_A_DATASET = ROWS | {UNIT_IDS}
LARGEST_HEADER_BYTES = 1_000_000
PIECE_BYTES = 1 << 20
FLOATS = {"F64": "d", "F32": "f"}
INTEGERS = {"I64": "q", "I32": "i", "I16": "h", "U8": "B", "I8": "b"}
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
    rows_digest: str
    """The same of the rows alone, without the ids of their units."""
    plain_digest: str
    """That of the bytes as they would have been handed over without such ids."""
    units: int | None = None
    """How many units own the rows; None: no ids came along, every row is one."""
    units_digest: str | None = None
    """Which rows belong together, as a digest: the same whatever the units are called."""
    cells_digest: str | None = None
    """Of a table that came as a file; see `Prepared`."""

    @classmethod
    def of_tensors(cls, data: bytes) -> Content:
        """Tensors in safetensors bytes. Raises InvalidRequest."""
        tensors = read_header(data)
        if not tensors.keys() <= OF_A_DATASET:
            raise InvalidRequest(f"the tensors of a dataset are named {', '.join(sorted(OF_A_DATASET))}")
        if not ({"features", "targets"} <= tensors.keys() or "input_ids" in tensors):
            raise InvalidRequest("a dataset holds tensors named features and targets, or input_ids")
        sizes = {tensor["shape"][0] if tensor["shape"] else 0 for tensor in tensors.values()}
        if len(sizes) != 1 or sizes == {0}:
            raise InvalidRequest("every tensor must have the same number of rows, and at least one")
        if "features" in tensors and not all(tensors["features"]["shape"][1:] or [0]):
            raise InvalidRequest(
                "features have rows and columns: two dimensions at least, and one column. Of single numbers "
                "make a column: features.reshape(-1, 1)"
            )
        for name in tensors:
            if not _is_finite(data, name):
                raise InvalidRequest(f"{name} hold NaN or infinity: fill or drop what is missing")
        units = _whole_numbers(data, tensors) if UNIT_IDS in tensors else None
        return cls(
            data,
            "safetensors",
            sizes.pop(),
            tensors,
            hashlib.sha256(data).hexdigest(),
            _rows_digest(data, tensors),
            hashlib.sha256(data if units is None else _without_units(data)).hexdigest(),
            *_partition(units),
        )

    @classmethod
    def of_texts(cls, data: bytes) -> Content:
        """A JSON list of texts, or an object of `texts` and `unit_ids`. Raises InvalidRequest."""
        told = json.loads(data)
        texts, units = (told.get("texts"), told.get(UNIT_IDS)) if isinstance(told, dict) else (told, None)
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text for text in texts)
        ):
            raise InvalidRequest("texts must be a list of strings, at least one and none empty")
        if units is not None and (
            not isinstance(units, list) or len(units) != len(texts) or not all(map(_is_id, units))
        ):
            raise InvalidRequest("unit_ids must be one whole number or text for each of the texts")
        rows = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
        digest, of_rows = hashlib.sha256(data).hexdigest(), hashlib.sha256(rows).hexdigest()
        return cls(data, "texts", len(texts), None, digest, of_rows, of_rows, *_partition(units))


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


# ------------------------------------------------------------------------------------------- units
def _is_id(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value != ""
    )


def _whole_numbers(content: bytes, tensors: dict[str, dict[str, Any]]) -> array[int]:
    shape, dtype = tensors[UNIT_IDS]["shape"], tensors[UNIT_IDS]["dtype"]
    if dtype not in INTEGERS or len(shape) != 1:
        raise InvalidRequest("unit_ids must be one whole number for each row")
    numbers: array[int] = array(INTEGERS[dtype])
    numbers.frombytes(_bytes_of(content, UNIT_IDS))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _partition(units: Sequence[int | str] | None) -> tuple[int | None, str | None]:
    """How many units there are, and which rows belong together: units numbered as they first appear."""
    if units is None:
        return None, None
    numbers: dict[str, int] = {}  # 7 and "7" are one
    places = array("q", (numbers.setdefault(str(unit), len(numbers)) for unit in units))
    return len(numbers), hashlib.sha256(places.tobytes()).hexdigest()


def _rows_digest(content: bytes, tensors: dict[str, dict[str, Any]]) -> str:
    """The rows alone, in the order of their names, whatever else the file says."""
    digest = hashlib.sha256()
    for name in sorted(tensors.keys() - {UNIT_IDS}):
        digest.update(repr((name, tensors[name]["dtype"], tensors[name]["shape"])).encode())
        digest.update(_bytes_of(content, name))
    return digest.hexdigest()


def _without_units(content: bytes) -> bytes:
    """The file as the safetensors library would have written it without the column of ids."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    left_out = header.pop(UNIT_IDS)["data_offsets"]
    gap = left_out[1] - left_out[0]
    for name, entry in header.items():
        if name != "__metadata__" and entry["data_offsets"][0] >= left_out[1]:
            entry["data_offsets"] = [place - gap for place in entry["data_offsets"]]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    body = memoryview(content)[8 + length :]
    return b"".join((struct.pack("<Q", len(text)), text, body[: left_out[0]], body[left_out[1] :]))


def _bytes_of(content: bytes, name: str) -> memoryview:
    length = int.from_bytes(content[:8], "little")
    start, end = json.loads(content[8 : 8 + length])[name]["data_offsets"]
    return memoryview(content)[8 + length + start : 8 + length + end]
