from __future__ import annotations

import pytest
import torch
from torch import nn

from tg_workbench.engine.optimizers import OPTIMIZERS, make_optimizer
from tg_workbench.engine.specs import OptimizerSpec
from tg_workbench.errors import InvalidRequest


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_goes_downhill(name: str) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = make_optimizer([weight], OptimizerSpec(name, learning_rate=0.1))
    for _ in range(5):
        weight.grad = 2 * weight.detach()
        optimizer.step()
    assert 0.0 < weight.item() < 3.0


@pytest.mark.parametrize("learning_rate", [0.0, 0.1])
@pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(
    "spec", [*map(OptimizerSpec, OPTIMIZERS), OptimizerSpec("sgd", momentum=0.9)], ids=lambda spec: spec.name
)
def test_weights_never_forget_a_gradient_that_was_not_finite(
    spec: OptimizerSpec, wrong: float, learning_rate: float
) -> None:
    """`Trainer.require_finite` looks at the weights alone, and may come many steps later."""
    weight = nn.Parameter(torch.ones(3, 2))
    optimizer = make_optimizer([weight], spec)
    for step in range(6):
        weight.grad = torch.ones(3, 2)
        if step == 2:
            weight.grad[1, 1] = wrong
            optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
    assert not weight.isfinite().all()


def test_weight_decay_alone_shrinks_the_weights() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = make_optimizer([weight], OptimizerSpec("adamw", learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(3.0 * (1 - 0.05))


@pytest.mark.parametrize(
    "spec", [OptimizerSpec("lion"), OptimizerSpec(learning_rate=-1.0), OptimizerSpec(betas=(1.5, 0.9))]
)
def test_optimizer_nobody_can_make_is_refused(spec: OptimizerSpec) -> None:
    with pytest.raises(InvalidRequest):
        make_optimizer([nn.Parameter(torch.zeros(1))], spec)
