"""A loss that may be shown: bounded, noisy, and paid for out of the step's own budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.claims.test_noise import RARE, weights
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import clip
from tg_workbench.privacy.noise import noisy_loss

EMPTY: dict[str, Any] = {"features": np.zeros((0, 4)), "targets": np.zeros((0, 1))}


def make_trainer(noise: float, *, bound: float | None = 3.0, share: float = 0.2) -> Trainer:
    """A least-squares model whose weights stay zero, so an example's loss is its target squared."""
    trainer = Trainer(
        TrainerSpec(
            model_ref="mlp",
            architecture=Architecture((4,), 1),
            lora=None,
            optimizer=OptimizerSpec("sgd", learning_rate=0.0, weight_decay=0.0),
            loss="mse",
            privacy=PrivacySpec(noise, 0.7, noisy_loss_bound=bound, noisy_loss_share=share),
            expected_batch_size=8.0,
            cache_folder=Path(),
        )
    )
    tensors, metadata = trainer.state()
    trainer.load_state({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, metadata)
    return trainer


def rows(targets: Iterable[float]) -> dict[str, Any]:
    column = np.array(list(targets), dtype=np.float32).reshape(-1, 1)
    generator = np.random.default_rng(len(column))
    return {"features": generator.normal(size=(len(column), 4)).astype(np.float32), "targets": column}


def released(trainer: Trainer, batch: dict[str, Any]) -> float:
    trainer.forward_backward(batch, allow_empty=True)
    loss = trainer.optim_step().noisy_loss
    assert loss is not None
    return loss


def test_gradient_and_loss_together_tell_what_is_charged_and_no_more() -> None:
    """Both noises seen from outside; 1/σ² = 1/σ₁² + 1/σ₂² has to give the σ that is charged."""
    charged, share = 2.0, 0.2
    trainer = make_trainer(charged, share=share)
    losses = [released(trainer, EMPTY) for _ in range(4000)]
    of_loss = charged / math.sqrt(share)
    assert stats.kstest(np.array(losses) / (of_loss * 3.0 / 8.0), "norm").pvalue > RARE

    moved = []
    for _ in range(1000):
        before = weights(trainer)
        trainer.forward_backward(EMPTY, allow_empty=True)
        trainer.optim_step(learning_rate=1.0)
        moved.append((weights(trainer) - before).numpy())
    of_gradient = charged / math.sqrt(1 - share)
    assert stats.kstest(np.concatenate(moved) / (of_gradient * 0.7 / 8.0), "norm").pvalue > RARE
    assert 1 / of_loss**2 + 1 / of_gradient**2 == pytest.approx(1 / charged**2)


def test_without_a_noisy_loss_the_gradient_has_the_whole_budget() -> None:
    spec = PrivacySpec(2.0, 0.7)
    assert spec.gradient_noise_multiplier == 2.0
    trainer = make_trainer(2.0, bound=None)
    trainer.forward_backward(EMPTY, allow_empty=True)
    assert trainer.optim_step().noisy_loss is None


@pytest.mark.parametrize("outlier", [1e3, 1e30, math.inf, math.nan])
def test_one_example_moves_the_loss_by_no_more_than_the_bound(outlier: float) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    values = torch.tensor([1.0, 2.0, outlier])

    def losses(count: int) -> Any:
        return clip(model, lambda: values[:count] + 0 * model(torch.ones(count, 1)).flatten(), 1.0)

    without, added = (noisy_loss(losses(count), 3.0, 0.0) for count in (2, 3))
    assert without == 3.0
    assert 0.0 <= added - without <= 3.0
    assert added - without == (0.0 if math.isnan(outlier) else 3.0)


def test_a_loss_below_zero_does_not_hide_the_others() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    values = torch.tensor([1.0, -1e9, -math.inf])
    clipped = clip(model, lambda: values + 0 * model(torch.ones(3, 1)).flatten(), 1.0)
    assert noisy_loss(clipped, 3.0, 0.0) == 1.0


def test_the_loss_is_over_the_public_batch_size_and_all_passes_of_the_step() -> None:
    trainer = make_trainer(0.0)
    trainer.forward_backward(rows([1.0, 0.5]))
    trainer.forward_backward(rows([9.0]), micro_batch_size=1)
    step = trainer.optim_step()
    assert step.noisy_loss == pytest.approx((1.0 + 0.25 + 3.0) / 8.0)


@pytest.mark.parametrize(
    "given",
    [
        {"noisy_loss_bound": 0.0},
        {"noisy_loss_bound": -1.0},
        {"noisy_loss_bound": math.inf},
        {"noisy_loss_bound": math.nan},
        {"noisy_loss_share": 0.0},
        {"noisy_loss_share": 1.0},
        {"noisy_loss_share": math.nan},
    ],
)
def test_what_promises_nothing_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match="noisy_loss"):
        PrivacySpec(1.0, 1.0, **given)  # type: ignore[arg-type]
