"""Tensors as the Open Inference Protocol spells them: a name, a shape, a datatype, and JSON or raw bytes.

Every count is checked against the bytes that came before anything is made from them.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from tg_workbench.errors import InvalidBatch

Array = np.ndarray[Any, Any]
JSON_BYTES = "json_bytes"
"""Where a frame's header holds how much of the payload is JSON; raw tensors follow."""
MOST_NUMBERS = 64 << 20


class RawInputs:
    """The raw tensors behind a request's JSON, handed out in order."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)

    def take(self, size: int) -> memoryview:
        """The next `size` bytes. Raises InvalidBatch."""
        if len(self._content) < size:
            raise InvalidBatch("the raw tensors are shorter than their binary_data_size says")
        taken, self._content = self._content[:size], self._content[size:]
        return taken

    def end(self) -> None:
        """Nothing may be left over. Raises InvalidBatch."""
        if len(self._content):
            raise InvalidBatch("there are more raw bytes than the inputs' binary_data_size say")


def read_floats(tensor: Any, raw: RawInputs, shape: tuple[int, ...]) -> Array:
    """An FP32 input [rows, *shape] of a request. Raises InvalidBatch."""
    if not isinstance(tensor, dict):
        raise InvalidBatch("an input is an object with name, shape, datatype and data")
    if tensor.get("datatype") != "FP32":
        raise InvalidBatch("the datatype of input features is FP32")
    said = tensor.get("shape")
    wanted = f"the shape of input features is [rows, {', '.join(map(str, shape))}]"
    if not isinstance(said, list) or not all(type(side) is int for side in said):
        raise InvalidBatch(wanted)
    if tuple(said[1:]) != shape or said[0] < 1 or math.prod(said) > MOST_NUMBERS:
        raise InvalidBatch(wanted)
    size = _binary_size(tensor)
    flat = _from_json(tensor) if size is None else _from_raw(raw.take(size))
    if flat.size != math.prod(said):
        raise InvalidBatch(f"input features has {flat.size} numbers; its shape says {math.prod(said)}")
    if not np.isfinite(flat).all():
        raise InvalidBatch("input features holds a number that is not finite")
    return flat.reshape(said)


def as_text(values: list[bytes]) -> bytes:
    """BYTES elements as raw bytes: each behind its length."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def _binary_size(tensor: dict[str, Any]) -> int | None:
    parameters = tensor.get("parameters", {})
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0 or "data" in tensor:
        raise InvalidBatch("an input has data, or a binary_data_size of 0 or more")
    return size


def _from_raw(content: memoryview) -> Array:
    if len(content) % 4:
        raise InvalidBatch("the raw bytes of an FP32 tensor are 4 for each number")
    return np.frombuffer(content, "<f4")


def _from_json(tensor: dict[str, Any]) -> Array:
    """Numbers, nested in the tensor's shape or flat."""
    numbers: list[Any] = []
    if not isinstance(tensor.get("data"), list):
        raise InvalidBatch("an input has data, a list of numbers, or a binary_data_size")
    pending = [tensor["data"]]
    while pending:
        part = pending.pop()
        kinds = set(map(type, part))
        if kinds <= {int, float}:
            numbers += part
        elif kinds == {list}:
            pending += reversed(part)
        else:
            raise InvalidBatch("the data of input features are numbers, flat or nested in its shape")
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)
