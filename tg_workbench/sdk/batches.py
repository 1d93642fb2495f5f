"""What a caller hands over (lists, NumPy, pandas, torch) as the bytes of a request.

Arrays travel as safetensors, lists as JSON. NumPy is imported only when there are arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk.connection import Body
from tg_workbench.sdk.ids import id_numbers

if TYPE_CHECKING:
    import numpy as np

SAFETENSORS = "application/vnd.safetensors"
IDS = ("record_ids", "unit_ids")
LONGEST_JSON = 4 << 20
"""Longer lists are sent as arrays: the workbench reads at most 8 MiB of JSON."""


def batch_body(batch: Mapping[str, Any], *, inside: str | None = "batch") -> Body:
    """Rows: tensors when any member is an array, else JSON, there `inside` a member. Raises InvalidBatch."""
    members = {
        name: id_numbers(value) if name in IDS else value
        for name, value in batch.items()
        if value is not None
    }
    if not members:
        raise InvalidBatch("the batch is empty: give features and targets, or input_ids")
    if any(_is_array(value) for value in members.values()):
        return tensors_body(members)
    body = Body.of_json(members if inside is None else {inside: members})
    return tensors_body(members) if len(body.content) > LONGEST_JSON and "prompts" not in members else body


def tensors_body(tensors: Mapping[str, Any]) -> Body:
    """Named arrays as safetensors bytes. Raises InvalidBatch."""
    from safetensors.numpy import save

    return Body(save({name: _array(name, value) for name, value in tensors.items()}), SAFETENSORS)


def rows_of(
    batch: Mapping[str, Any] | None, members: Mapping[str, Any], *, dataset: str | None
) -> Mapping[str, Any] | None:
    """The one batch that was given: whole, by its members, or none when a dataset is named.

    Raises InvalidBatch when there are several, or nothing.
    """
    given = {name: value for name, value in members.items() if value is not None}
    if sum((batch is not None, bool(given), dataset is not None)) != 1:
        raise InvalidBatch(
            "give exactly one of: a batch, its members (features and targets, or input_ids), or a dataset"
        )
    return batch if batch is not None else given or None


def _is_array(value: Any) -> bool:
    """NumPy, pandas and torch all answer to `__array__`; so do their rows in a list."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value):
        return hasattr(value[0], "__array__")
    return hasattr(value, "__array__")


def _array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A numeric array in a type that the workbench takes: 32-bit floats, 64-bit whole numbers, bytes."""
    import numpy as np

    if hasattr(value, "detach"):  # torch: off its graph and off its device
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except ValueError as failure:
        raise InvalidBatch(f"{name} is ragged: every row must have the same length") from failure
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind in "iub":
        return np.ascontiguousarray(array, dtype=np.int64)
    held = "texts" if array.dtype.kind in "US" else f"{array.dtype} values"
    raise InvalidBatch(
        f"{name} holds {held}, not numbers: encode classes as whole numbers and drop or fill what is missing"
    )
