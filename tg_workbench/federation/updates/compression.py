"""How an update is made smaller on its way: not at all, to int8, or to its largest numbers.

Whatever is chosen, what travels is safetensors, and the server decodes it exactly. What was lost on the way
is the residual: the device keeps it, and adds it to its next update (Stich, Cordonnier, Jaggi,
"Sparsified SGD with Memory", NeurIPS 2018, Algorithm 1; Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback
Fixes SignSGD and other Gradient Compression Schemes", ICML 2019, Algorithm 2). Nothing is lost for good.

int8: x ≈ s·q, s = max|x|/127 for each tensor. |x − s·q| ≤ s/2 to the nearest, < s by chance (and then right
on average); both up to float32's rounding. A quarter of the bytes. top-k: the k numbers largest by absolute
value with their places; 8·k bytes.

Pitfalls: a residual is what one device did not yet say of its data. It never leaves the device, and belongs
to one campaign only. Under differential privacy it must come after the noise, or not at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tg_workbench.errors import InvalidField, UpdateInvalid
from tg_workbench.federation.updates.headers import Head, demanded, header_of
from tg_workbench.federation.updates.layout import CONTROL, Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tg_workbench.federation.strategies.strategy import Vector

Kind = Literal["none", "int8", "top-k"]
Number = TypeVar("Number", bound="np.generic")
MOST = 127
"""The largest int8 in use: −128 has no counterpart."""


@dataclass(frozen=True, slots=True)
class Compression:
    """What to do to an update: `none`, `int8`, or `top-k` with the part of its numbers to keep."""

    kind: Kind = "none"
    keep: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in ("none", "int8", "top-k"):
            raise InvalidField("compression", "use none, int8 or top-k")
        if not 0.0 < self.keep <= 1.0:
            raise InvalidField("compression.keep", "a number above 0 and at most 1")

    def kept(self, size: int) -> int:
        """How many of so many numbers `top-k` keeps."""
        return max(1, math.floor(self.keep * size + 0.5))


@dataclass(frozen=True, slots=True)
class Compressed:
    """What travels, and what the device remembers until its next update."""

    payload: bytes
    residual: Vector | None


def compressed(
    vector: Vector,
    layout: Layout,
    compression: Compression,
    residual: Vector | None = None,
    by_chance: np.random.Generator | None = None,
) -> Compressed:
    """`vector` and the last update's residual, in safetensors bytes, and the new residual.

    With a generator `by_chance`, int8 is rounded at random, and right on average.
    """
    import numpy as np

    whole = vector if residual is None else vector + residual
    if whole.dtype != np.float32 or whole.shape != (layout.size,) or not np.isfinite(whole).all():
        raise InvalidField("update", f"finite numbers in one flat float32 vector of {layout.size}")
    match compression.kind:
        case "none":
            return Compressed(_file([whole], "none", layout), None)
        case "int8":
            scales, small = _to_int8(whole, layout, by_chance)
            left = whole - _from_int8(scales, small, layout)
            return Compressed(_file([scales, small], "int8", layout), left)
        case "top-k":
            values, places = _to_largest(whole, layout, compression)
            left = whole.copy()
            left[places] = 0.0
            return Compressed(_file([values, places], "top-k", layout), left)


def decoded(data: NDArray[np.uint8], head: Head, layout: Layout) -> Vector:
    """The vector that these data stand for; a view of them where that is possible. Raises UpdateInvalid."""
    import numpy as np

    match head.compression:
        case "int8":
            split = 4 * len(layout.parts)
            return _from_int8(_as(data[:split], np.float32), data[split:].view(np.int8), layout)
        case "top-k":
            half = len(data) // 2
            return _from_largest(_as(data[:half], np.float32), _as(data[half:], np.uint32), layout)
        case _:
            return _as(data, np.float32)


def _file(arrays: list[NDArray[Any]], kind: Kind, layout: Layout) -> bytes:
    """A safetensors file of arrays that lie one behind the other as this compression demands."""
    head = header_of(demanded(layout, kind, len(arrays[0])), kind, layout)
    return b"".join([head, *(array.data.cast("B") for array in arrays)])


# ------------------------------------------------------------------------------------------- int8
def _to_int8(
    vector: Vector, layout: Layout, by_chance: np.random.Generator | None
) -> tuple[Vector, NDArray[np.int8]]:
    import numpy as np

    scales = np.zeros(len(layout.parts), dtype=np.float32)
    small = np.zeros(layout.size, dtype=np.int8)
    for n, span in enumerate(layout.spans.values()):
        part = vector[span]
        scales[n] = scale = _scale(part)
        if scale > 0.0:
            steps = part / scale
            steps = np.rint(steps) if by_chance is None else _by_chance(steps, by_chance)
            small[span] = np.clip(steps, -MOST, MOST)
    return scales, small


def _scale(part: Vector) -> np.float32:
    """max|x|/127, such that 127 times it is still a float32; 0 for numbers that are too small to divide."""
    import numpy as np

    largest = np.float32(max(part.max(), -part.min()))
    scale = largest / np.float32(MOST)
    if scale < np.finfo(np.float32).tiny:
        return np.float32(0.0)
    return (
        scale if scale * np.float64(MOST) <= np.finfo(np.float32).max else np.nextafter(scale, np.float32(0))
    )


def _by_chance(steps: Vector, random: np.random.Generator) -> Vector:
    """Down or up, up with the probability of what is over: right on average."""
    import numpy as np

    rounded: Vector = np.floor(steps + random.random(len(steps), dtype=np.float32))
    return rounded


def _from_int8(scales: Vector, small: NDArray[np.int8], layout: Layout) -> Vector:
    import numpy as np

    if not (np.isfinite(scales).all() and (scales >= 0.0).all()) or small.min() < -MOST:
        raise UpdateInvalid("the scales of an int8 update are finite, 0 or more, and its numbers -127 to 127")
    vector = small.astype(np.float32)
    for scale, span in zip(scales, layout.spans.values(), strict=True):
        vector[span] *= scale
    return vector


# ------------------------------------------------------------------------------------------ top-k
def _to_largest(
    vector: Vector, layout: Layout, compression: Compression
) -> tuple[Vector, NDArray[np.uint32]]:
    import numpy as np

    if layout.names[-1].startswith(CONTROL):
        raise InvalidField("compression", "top-k would drop SCAFFOLD's control variate: use none or int8")
    kept = compression.kept(layout.size)
    places = np.argpartition(np.abs(vector), layout.size - kept)[layout.size - kept :]
    ascending = np.sort(places).astype(np.uint32)
    return vector[ascending], ascending


def _from_largest(values: Vector, places: NDArray[np.uint32], layout: Layout) -> Vector:
    import numpy as np

    if places[-1] >= layout.size or (places[1:] <= places[:-1]).any():
        raise UpdateInvalid(f"the places of a top-k update ascend, and are below {layout.size}")
    vector = np.zeros(layout.size, dtype=np.float32)
    vector[places] = values
    return vector


def _as(data: NDArray[np.uint8], dtype: type[Number]) -> NDArray[Number]:
    """The same bytes as numbers; copied only where they lie askew."""
    import numpy as np

    return np.require(data.view(dtype), requirements="A")
