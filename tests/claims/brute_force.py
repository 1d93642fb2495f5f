"""What clipping must give, worked out the slow way: one example at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.engines import BOOK_KEEPING, clipping_engine

Losses = Callable[[slice], Tensor]
"""The losses of a slice of the batch."""


def one_by_one(
    model: nn.Module, losses: Losses, count: int, bound: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Σ gᵢ · min(1, bound / ‖gᵢ‖), and every norm, from `count` backward passes."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in trainable.items()}
    norms = []
    for number in range(count):
        value = losses(slice(number, number + 1)).sum()
        grads = torch.autograd.grad(value, list(trainable.values()), materialize_grads=True)
        norm = torch.sqrt(torch.stack([g.double().square().sum() for g in grads]).sum())
        norms.append(norm)
        for name, grad in zip(total, grads, strict=True):
            total[name] += grad.double() * min(1.0, bound / float(norm))
    return total, torch.stack(norms)


def check(model: nn.Module, losses: Losses, count: int, engine: str = BOOK_KEEPING) -> ClippedSum:
    """Clip at the median norm, so that half of the examples are clipped, and compare with the slow way."""
    bound = float(one_by_one(model, losses, count, 1.0)[1].median())
    expected, norms = one_by_one(model, losses, count, bound)
    found = clipping_engine(engine, model).clip(lambda: losses(slice(0, count)), bound)
    torch.testing.assert_close(found.norms.double(), norms.cpu(), rtol=2e-5, atol=1e-9)
    assert found.tensors.keys() == expected.keys()
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found.tensors[name].double(),
            tensor,
            rtol=1e-4,
            atol=2e-6 * scale,
            msg=lambda m, n=name: f"{n}: {m}",
        )
    return found
