"""Where a person owns several rows: does the sum of their gradients stay within the bound?"""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.claims.test_clipping import COUNT, LAYERS, uneven
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidBatch, InvalidRequest
from tg_workbench.privacy.engines import clipping_engine
from tg_workbench.privacy.noise import noisy_loss

UNIT_OF = torch.tensor([0, 1, 0, 2, 2, 0, 3, 1])
"""Eight examples of four people: three, two, two and one."""
SPEC = TrainerSpec(
    model_ref="mlp",
    architecture=Architecture((4,), 3, (16,)),
    lora=None,
    optimizer=OptimizerSpec("sgd", learning_rate=1.0, weight_decay=0.0),
    loss="cross_entropy",
    privacy=PrivacySpec(noise_multiplier=0.0, max_grad_norm=0.05, unit="unit"),
    expected_batch_size=1.0,
    cache_folder=Path(),
)


def unit_by_unit(model: nn.Module, x: Tensor, bound: float) -> tuple[dict[str, Tensor], Tensor]:
    """Σ over units of their gradient, clipped; and every norm. The slow way, in float64."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in trainable.items()}
    norms = []
    for unit in range(int(UNIT_OF.max()) + 1):
        value = uneven(model(x[unit == UNIT_OF])).sum()
        grads = torch.autograd.grad(value, list(trainable.values()), materialize_grads=True)
        norms.append(torch.sqrt(torch.stack([g.double().square().sum() for g in grads]).sum()))
        for name, grad in zip(total, grads, strict=True):
            total[name] += grad.double() * min(1.0, bound / float(norms[-1]))
    return total, torch.stack(norms)


OF_OPACUS = ("linear on rows", "linear on sequences", "conv2d", "layer norm", "lora")


@pytest.mark.parametrize(
    ("layer", "engine"),
    [(layer, "book-keeping") for layer in LAYERS] + [(layer, "opacus-hooks") for layer in OF_OPACUS],
)
def test_clipped_sum_equals_one_backward_per_unit(layer: str, engine: str) -> None:
    torch.manual_seed(1)
    make, draw = LAYERS[layer]
    model, x = make(), draw()
    bound = float(unit_by_unit(model, x, 1.0)[1].median())
    expected, norms = unit_by_unit(model, x, bound)
    found = clipping_engine(engine, model).clip(lambda: uneven(model(x)), bound, UNIT_OF)
    torch.testing.assert_close(found.norms.double(), norms, rtol=2e-5, atol=1e-9)
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        torch.testing.assert_close(found.tensors[name].double(), tensor, rtol=1e-4, atol=2e-6 * scale)
    assert (found.count, len(found.norms)) == (COUNT, 4)


@pytest.mark.parametrize("layer", ["linear on rows", "wide conv2d, in factors", "wide embedding, in factors"])
def test_no_unit_moves_the_sum_further_than_the_bound(layer: str) -> None:
    torch.manual_seed(2)
    make, draw = LAYERS[layer]
    model, x, bound = make(), draw(), 1e-3
    whole = clipping_engine("book-keeping", model).clip(lambda: uneven(model(x)), bound, UNIT_OF)
    for unit in range(4):
        others = unit != UNIT_OF
        renumbered = torch.unique(UNIT_OF[others], return_inverse=True)[1]
        without = clipping_engine("book-keeping", model).clip(
            lambda others=others: uneven(model(x[others])), bound, renumbered
        )
        moved = [whole.tensors[name].double() - without.tensors[name].double() for name in whole.tensors]
        assert float(torch.cat([part.flatten() for part in moved]).norm()) <= bound * (1 + 1e-4)


def test_one_row_that_is_not_finite_takes_its_unit_along_and_nobody_else() -> None:
    torch.manual_seed(1)
    model, x = nn.Linear(7, 9), torch.randn(COUNT, 7)
    x[3, 0] = float("inf")  # of unit 2, who has rows 3 and 4
    found = clipping_engine("book-keeping", model).clip(lambda: model(x).tanh().sum(1), 0.1, UNIT_OF)
    left = torch.tensor([0, 1, 2, 5, 6, 7])
    fewer = torch.tensor([0, 1, 0, 0, 2, 1])
    without = clipping_engine("book-keeping", model).clip(lambda: model(x[left]).tanh().sum(1), 0.1, fewer)
    for name, tensor in without.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor)


def test_ghost_norms_cannot_tell_the_norm_of_a_sum_and_say_so() -> None:
    model, x = nn.Linear(7, 9), torch.randn(COUNT, 7)
    with pytest.raises(InvalidRequest, match="not of a unit's sum"):
        clipping_engine("opacus-ghost", model).clip(lambda: model(x).sum(1), 1.0, UNIT_OF)


@pytest.mark.parametrize(
    "wrong", [torch.tensor([0, 1]), torch.tensor([0, 2, 2]), torch.tensor([0.0, 1.0, 1.0])]
)
def test_units_that_fit_no_batch_are_refused(wrong: Tensor) -> None:
    model, x = nn.Linear(2, 2), torch.randn(3, 2)
    with pytest.raises(InvalidRequest, match="units of a batch"):
        clipping_engine("book-keeping", model).clip(lambda: model(x).sum(1), 1.0, wrong)


def test_a_unit_counts_in_the_noisy_loss_for_no_more_than_the_bound() -> None:
    model, x = nn.Linear(2, 2), torch.randn(COUNT, 2)
    found = clipping_engine("book-keeping", model).clip(lambda: model(x).sum(1) * 0 + 2.0, 1.0, UNIT_OF)
    assert noisy_loss(found, 3.0, 0.0) == pytest.approx(4 * 3.0 - 1.0)  # three people at 3, one at 2


def trained(unit_ids: np.ndarray, **changes: object) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(dataclasses.replace(SPEC, **changes))  # type: ignore[arg-type]
    trainer.forward_backward(rows(unit_ids))
    return trainer


def rows(unit_ids: np.ndarray) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    size = len(unit_ids)
    return {
        "features": draw.normal(size=(size, 4)),
        "targets": draw.integers(0, 3, size),
        "unit_ids": unit_ids,
    }


def test_a_person_with_a_thousand_rows_moves_a_step_by_no_more_than_the_bound() -> None:
    trainer = trained(np.zeros(1000, dtype=np.int64))
    before, _ = trainer.state()
    trainer.optim_step()
    after, _ = trainer.state()
    moved = [after[name] - before[name] for name in before if name.startswith("model/")]
    assert float(torch.cat([part.flatten() for part in moved]).norm()) <= 0.05 * (1 + 1e-4)


def test_micro_batches_do_not_divide_a_person() -> None:
    ids = np.random.default_rng(1).integers(0, 40, 200)
    states = []
    for size in (None, 7):
        torch.manual_seed(0)
        trainer = Trainer(SPEC)
        trainer.forward_backward(rows(ids), micro_batch_size=size)
        trainer.optim_step()
        states.append(trainer.state()[0])
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])


def test_a_person_comes_once_per_step_and_is_told_by_key() -> None:
    trainer = Trainer(SPEC)
    trainer.forward_backward(rows(np.array([1, 1, 2])), refuse_repeats=True)
    with pytest.raises(InvalidBatch, match="a unit came twice"):
        trainer.forward_backward(rows(np.array([3, 2])), refuse_repeats=True)
    assert len(trainer.participants) == 2
    trainer.optim_step()
    assert not trainer.participants
    trainer.forward_backward(rows(np.array([3, 2])), refuse_repeats=True)


def test_rows_without_ids_are_refused_where_ids_are_counted_by() -> None:
    with pytest.raises(InvalidBatch, match="unit_ids"):
        Trainer(SPEC).forward_backward({**rows(np.array([1])), "unit_ids": None})


def test_a_person_with_very_many_rows_takes_no_more_memory_than_the_rows_do() -> None:
    """Measured pair by pair, 20,000 rows would take gigabytes; laid beside it, so would everybody else."""
    ids = np.concatenate([np.zeros(20_000, dtype=np.int64), np.arange(1, 501)])
    trainer, batch = Trainer(SPEC), rows(ids)
    trainer.forward_backward(rows(np.arange(64)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.forward_backward(batch)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
