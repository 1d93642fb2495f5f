"""Precision: in how many bits a network computes.

Weights, gradients that are added up, noise and optimizers stay float32 whatever is chosen here.

**Why no cache.** Autocast can cast a weight once for all its uses; then the book-keeper, which counts them to
find one outside the layer that owns the weight, would see a single one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from tg_workbench.engine.specs import BF16_MIXED


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """While this lasts, layers compute as `precision` says: one of `specs.PRECISIONS`."""
    if precision != BF16_MIXED:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
