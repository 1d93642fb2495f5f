"""The head of an update: safetensors' JSON header, read by hand and bounded, before anything is allocated.

A file is 8 bytes (the header's length, little endian), the header, then the data. Every claim in the header
is held against what the layout and the compression demand, in full: names, dtypes, shapes and offsets, in
order and without a hole. So what may follow is known to the byte, whatever is claimed. Without numpy.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import UpdateInvalid
from tg_workbench.federation.updates.layout import Layout

MOST_HEADER_BYTES = 1 << 20
WIDTHS = {"F32": 4, "U32": 4, "I8": 1}
"""Bytes of a number, by safetensors' names: the only three that an update may hold."""
INDICES, VALUES, SCALES = "~indices", "~values", "~scales"
COMPRESSION, LAYOUT = "tg.compression", "tg.layout"
"""The two members of the header's metadata."""

Part = tuple[str, str, tuple[int, ...]]
"""Name, dtype, shape."""


@dataclass(frozen=True, slots=True)
class Head:
    """A header that holds what it must."""

    compression: str
    parts: tuple[Part, ...]
    data_start: int

    @property
    def total_bytes(self) -> int:
        """How long the whole file is."""
        return self.data_start + data_bytes(self.parts)


def header_length(head: bytes) -> int:
    """How many bytes of a file its head takes, from the first 8. Raises UpdateInvalid."""
    if len(head) < 8:
        raise UpdateInvalid("this is no safetensors file: it ends before its header")
    (length,) = struct.unpack_from("<Q", head)
    if not 2 <= length <= MOST_HEADER_BYTES:
        raise UpdateInvalid(f"this is no safetensors file with a header of at most {MOST_HEADER_BYTES} bytes")
    return int(8 + length)


def check_head(head: bytes, total_bytes: int, layout: Layout) -> Head:
    """What the head of a file of `total_bytes` says, if it is an update of this layout; or UpdateInvalid."""
    data_start = header_length(head)
    if total_bytes < data_start or len(head) < data_start:
        raise UpdateInvalid("this is no safetensors file: it ends before its header")
    header = _parsed(head[8:data_start])
    compression, count = _named_in(header.pop("__metadata__", None), layout), _kept(header)
    found = Head(compression, demanded(layout, compression, count), data_start)
    _require(header, found.parts)
    if found.total_bytes != total_bytes:
        raise UpdateInvalid(f"the data of this update are {found.total_bytes - data_start} bytes long")
    return found


def compression_in(content: bytes, most_header_bytes: int = MOST_HEADER_BYTES) -> str | None:
    """The compression that an update, of which this is the beginning, names.

    None when it is none, or its header has more than `most_header_bytes` or is not all here.
    """
    try:
        data_start = header_length(content[:8])
        if data_start > min(len(content), 8 + most_header_bytes):
            return None
        told = _parsed(content[8:data_start]).get("__metadata__")
    except UpdateInvalid:
        return None
    return str(told.get(COMPRESSION, "none")) if isinstance(told, dict) else "none"


def demanded(layout: Layout, compression: str, kept: int = 0) -> tuple[Part, ...]:
    """What a file of this layout holds, in the order in which it lies there."""
    match compression:
        case "none":
            return tuple((name, "F32", shape) for name, shape in layout.parts)
        case "int8":
            parts = ((name, "I8", shape) for name, shape in layout.parts)
            return ((SCALES, "F32", (len(layout.parts),)), *parts)
        case "top-k":
            if not 0 < kept <= layout.size:
                raise UpdateInvalid(f"a top-k update keeps 1 to {layout.size} numbers")
            return ((VALUES, "F32", (kept,)), (INDICES, "U32", (kept,)))
        case _:
            raise UpdateInvalid("the compression of an update is none, int8 or top-k")


def data_bytes(parts: Sequence[Part]) -> int:
    """How many bytes these tensors take."""
    return sum(WIDTHS[dtype] * math.prod(shape) for _, dtype, shape in parts)


def header_of(parts: Sequence[Part], compression: str, layout: Layout) -> bytes:
    """The first bytes of a file that holds these parts: length and header."""
    entries: dict[str, Any] = {"__metadata__": {COMPRESSION: compression, LAYOUT: layout.digest}}
    start = 0
    for name, dtype, shape in parts:
        end = start + WIDTHS[dtype] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data are aligned, as the format asks
    return struct.pack("<Q", len(text)) + text


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        if text[:1] != b"{":
            raise ValueError
        header = json.loads(text, object_pairs_hook=_once, parse_constant=_never, parse_float=_never)
    except (ValueError, RecursionError):
        raise UpdateInvalid(
            "the header of this update is not the JSON object of a safetensors file"
        ) from None
    return dict(header)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _never(_: str) -> Any:
    raise ValueError


def _named_in(metadata: object, layout: Layout) -> str:
    """The compression that the metadata name; they may hold no more than that and the layout's digest."""
    told = {"format": "pt"} if metadata is None else metadata
    if not isinstance(told, Mapping) or not told.keys() <= {"format", COMPRESSION, LAYOUT}:
        raise UpdateInvalid(f"the metadata of an update are {COMPRESSION} and {LAYOUT}")
    if told.get(LAYOUT, layout.digest) != layout.digest:
        raise UpdateInvalid("this update is of another model's layout")
    return str(told.get(COMPRESSION, "none"))


def _kept(header: Mapping[str, Any]) -> int:
    """How many numbers a top-k update claims to hold; 0 where it says nothing sensible."""
    match header.get(INDICES):
        case {"shape": [int(kept)]}:
            return kept
        case _:
            return 0


def _require(header: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """The header lists exactly these parts, one directly behind the other."""
    names = {name for name, _, _ in parts}
    if header.keys() - names:
        raise UpdateInvalid("this update holds a tensor that the model has not")
    start = 0
    for name, dtype, shape in parts:
        end = start + WIDTHS[dtype] * math.prod(shape)
        entry = header.get(name)
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise UpdateInvalid(f"{name} is missing in this update, or not described as safetensors does")
        if entry["dtype"] != dtype:
            raise UpdateInvalid(f"{name} must be {dtype}")
        if not _same(entry["shape"], shape):
            raise UpdateInvalid(f"{name} must have the shape {list(shape)}")
        if not _same(entry["data_offsets"], (start, end)):
            raise UpdateInvalid(f"{name} must lie at {start} to {end}, in the order of the names")
        start = end


def _same(found: object, wanted: Sequence[int]) -> bool:
    """A list of these whole numbers; neither True nor 1.0 is one."""
    return isinstance(found, list) and found == list(wanted) and all(type(number) is int for number in found)
