"""A layout: which parameters a model has, and where each of them lies in one flat float32 vector.

The order is that of the names, as in every safetensors file of one dtype: so the data of a file IS the
vector, and nothing is copied either way.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tg_workbench.errors import InvalidField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tg_workbench.federation.strategies.strategy import Vector

MOST_PARTS = 10_000
MOST_NUMBERS = 1 << 33
"""32 GiB of float32: beyond any model that devices send here."""
CONTROL = "~control/"
"""Before the names of SCAFFOLD's control variate, which so comes after all others in the order of names."""
_NAME = re.compile(r"[A-Za-z0-9_.\-/:]{1,200}")


@dataclass(frozen=True)
class Layout:
    """Names and shapes, in the order of the names. `Layout.of` sorts and checks them."""

    parts: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> Layout:
        """The layout of parameters with these shapes. Raises InvalidField."""
        if not 0 < len(shapes) <= MOST_PARTS:
            raise InvalidField("layout", f"a model has 1 to {MOST_PARTS} parameters")
        if not all(_NAME.fullmatch(name) for name in shapes):
            raise InvalidField("layout", "names are 1 to 200 letters, digits and _ . - / :")
        if not all(_is_size(size) for shape in shapes.values() for size in shape):
            raise InvalidField("layout", "sizes are whole numbers above 0")
        layout = cls(tuple((name, tuple(shapes[name])) for name in sorted(shapes)))
        if layout.size > MOST_NUMBERS:
            raise InvalidField("layout", f"a model has at most {MOST_NUMBERS} numbers")
        return layout

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """The layout that `as_json` wrote down."""
        return cls.of(dict(json.loads(text)))

    def as_json(self) -> str:
        """The layout as text, the same for the same layout."""
        return json.dumps(self.parts, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """A hash by which both sides know that they speak of the same layout."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """In the order of the vector."""
        return tuple(name for name, _ in self.parts)

    @cached_property
    def size(self) -> int:
        """How many numbers the vector has."""
        return sum(math.prod(shape) for _, shape in self.parts)

    @cached_property
    def spans(self) -> Mapping[str, slice]:
        """Where each parameter lies in the vector."""
        spans, start = {}, 0
        for name, shape in self.parts:
            spans[name] = slice(start, start := start + math.prod(shape))
        return spans

    def with_control(self) -> Layout:
        """The same twice: the parameters, then SCAFFOLD's control variate of each."""
        return Layout((*self.parts, *((CONTROL + name, shape) for name, shape in self.parts)))

    def arrays(self, vector: Vector) -> dict[str, Vector]:
        """The parameters in the vector, by name: views, nothing is copied."""
        self._require(vector.shape)
        return {name: vector[self.spans[name]].reshape(shape) for name, shape in self.parts}

    def vector(self, arrays: Mapping[str, NDArray[np.floating]]) -> Vector:
        """One new vector out of named arrays, which must be exactly the parameters of this layout."""
        import numpy as np

        if arrays.keys() != self.spans.keys():
            raise InvalidField("parameters", "they are not those of this layout")
        vector = np.empty(self.size, dtype=np.float32)
        for name, shape in self.parts:
            if arrays[name].shape != shape:
                raise InvalidField(f"parameters.{name}", f"its shape is {list(shape)}")
            vector[self.spans[name]] = arrays[name].reshape(-1)
        return vector

    def _require(self, shape: Iterable[int]) -> None:
        if tuple(shape) != (self.size,):
            raise InvalidField("parameters", f"this layout has {self.size} numbers in one flat vector")


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size > 0
