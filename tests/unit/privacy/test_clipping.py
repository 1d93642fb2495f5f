from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import Clipper, clip


def test_short_gradients_are_left_alone_and_long_ones_counted() -> None:
    model, x = nn.Linear(3, 1, bias=False), torch.tensor([[0.3, 0.0, 0.0], [0.0, 4.0, 0.0]])
    found = clip(model, lambda: model(x).sum(1), 1.0)
    torch.testing.assert_close(found.tensors["weight"], torch.tensor([[0.3, 1.0, 0.0]]))
    assert found.num_clipped == 1
    assert found.norms.tolist() == pytest.approx([0.3, 4.0])
    assert found.num_clipped == 1


def test_sums_under_one_bound_add_up() -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    whole = clip(model, lambda: model(x).square().sum(1), 0.1)
    parts = [clip(model, lambda p=p: model(p).square().sum(1), 0.1) for p in (x[:1], x[1:])]
    total = parts[0] + parts[1] + Clipper(model).nothing(0.1)
    assert total.count == 4
    torch.testing.assert_close(total.tensors["weight"], whole.tensors["weight"])


def test_sums_under_different_bounds_do_not_add_up() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(InvalidRequest):
        Clipper(model).nothing(1.0) + Clipper(model).nothing(2.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_bound_that_bounds_nothing_is_refused(bound: float) -> None:
    with pytest.raises(InvalidRequest):
        Clipper(nn.Linear(3, 2)).nothing(bound)


def test_loss_of_the_whole_batch_is_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(InvalidRequest, match="one value per example"):
        clip(model, lambda: model(torch.randn(4, 3)).mean(), 1.0)


def test_layer_that_is_not_used_gets_a_gradient_of_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "idle": nn.Linear(3, 2)})
    found = clip(model, lambda: model["used"](torch.randn(4, 3)).sum(1), 1.0)
    assert not found.tensors["idle.weight"].any()


def test_clipping_leaves_the_model_untouched() -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    clip(model, lambda: model(x).sum(1), 1.0)
    assert not model._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(RuntimeError):
        clip(model, lambda: model(torch.randn(4, 9)).sum(1), 1.0)
    assert not model._forward_hooks
