"""The digits of scikit-learn: 1,797 images of 8×8, the last 297 held out, the others divided up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

HELD_OUT = 297


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    features, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    return (features[order] / 16).astype(np.float32), targets[order].astype(np.int64)


def part_of_digits(part: int, of: int) -> dict[str, NDArray[Any]]:
    """Every `of`-th row to be learned from, beginning with number `part`."""
    features, targets = _digits()
    return {"features": features[:-HELD_OUT][part::of], "targets": targets[:-HELD_OUT][part::of]}


def held_out_digits() -> dict[str, NDArray[Any]]:
    """The rows that nobody learns from."""
    features, targets = _digits()
    return {"features": features[-HELD_OUT:], "targets": targets[-HELD_OUT:]}
