from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.engine.test_trainer import SPEC, TEXT_SPEC, make, rows
from tg_workbench.engine.class_weights import balanced
from tg_workbench.engine.specs import Architecture, PrivacySpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import InvalidBatch, InvalidRequest, PrivacyRefused


def test_balanced_weights_let_every_class_count_alike() -> None:
    counts = (10, 30, 0, 60)
    found = balanced(counts, is_public=True)
    assert [count * weight for count, weight in zip(counts, found, strict=True)] == pytest.approx(
        [100 / 3, 100 / 3, 0.0, 100 / 3]
    )


def test_weights_are_never_computed_from_protected_rows() -> None:
    with pytest.raises(PrivacyRefused, match="protected"):
        balanced((1, 2), is_public=False)


def test_rows_without_classes_have_no_balance() -> None:
    with pytest.raises(InvalidRequest):
        balanced((0, 0), is_public=True)


@pytest.mark.parametrize("privacy", [None, PrivacySpec(0.0, 1e6)], ids=["plain", "private"])
def test_each_loss_counts_by_its_class(privacy: PrivacySpec | None) -> None:
    weights = (0.5, 2.0, 0.0)
    batch = rows(12)
    plain, weighed = (make(privacy=privacy, class_weights=each) for each in (None, weights))
    by_class = np.asarray(weights)[batch["targets"]]
    assert weighed.each_loss(batch) == pytest.approx(plain.each_loss(batch) * by_class, rel=1e-5)
    assert weighed.evaluate(batch).loss == pytest.approx(weighed.each_loss(batch).mean(), rel=1e-5)
    assert weighed.measure(batch).loss == pytest.approx(weighed.each_loss(batch).mean(), rel=1e-5)
    assert weighed.forward_backward(batch).loss == pytest.approx(weighed.each_loss(batch).mean(), rel=1e-5)


def test_weights_scale_the_gradient_before_it_is_clipped() -> None:
    batch = {"features": np.ones((1, 4)), "targets": [1]}
    bound = PrivacySpec(0.0, 0.01)
    few, many = (make(privacy=bound, class_weights=(1.0, weight, 1.0)) for weight in (1.0, 1e6))
    sums = []
    for trainer in (few, many):
        found = trainer.forward_backward(batch)
        assert found.grad_norm_after_clip == pytest.approx(0.01)
        trainer.optim_step()
        sums.append(torch.cat([tensor.flatten() for tensor in trainer.state(False)[0].values()]))
    assert torch.allclose(sums[0], sums[1], atol=1e-4)  # both at the bound, in the same direction


@pytest.mark.parametrize(
    "wrong", [(), (1.0,), (1.0, 1.0), (1.0, -1.0, 1.0), (0.0, 0.0, 0.0), (1.0, float("nan"), 1.0)]
)
def test_weights_that_fit_no_classes_are_refused(wrong: Sequence[float]) -> None:
    with pytest.raises(InvalidRequest, match="class_weights"):
        make(class_weights=tuple(wrong))


@pytest.mark.parametrize(
    "more", [{"loss": "mse"}, {"architecture": Architecture((4,), 1)}], ids=["loss", "one output"]
)
def test_weights_without_classes_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="class_weights"):
        Trainer(dataclasses.replace(SPEC, class_weights=(1.0, 1.0, 1.0), **more))
    with pytest.raises(InvalidRequest, match="class_weights"):
        Trainer(dataclasses.replace(TEXT_SPEC, class_weights=(1.0, 1.0)))
    with pytest.raises(InvalidBatch, match="class_weights"):
        make(class_weights=(1.0, 1.0, 1.0)).evaluate(
            {"features": np.ones((2, 4)), "targets": np.ones((2, 3))}
        )
