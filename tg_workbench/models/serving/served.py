"""A model as its worker has it: what it reads and answers, and how its rows and classes are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
"""A network: float32 [rows, *input_shape] → float32 [rows, outputs]. Raises WorkbenchError."""
REGRESSION, CLASSIFICATION = "regression", "classification"
INPUT, OUTPUT = "features", "scores"


class Encoding(Protocol):
    """How raw columns become features: `datasets.Encoding`."""

    def features(self, rows: list[Any], /) -> Array:
        """[rows, *shape]. Raises InvalidBatch."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """What is known of a model that answers."""

    model_id: str
    version: int
    task: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...] | None = None
    encoding: Encoding | None = None

    def name_of(self, number: int) -> str:
        """What class `number` is called."""
        names = self.class_names
        return names[number] if names is not None and number < len(names) else str(number)
