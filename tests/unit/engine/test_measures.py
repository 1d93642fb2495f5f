from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from tg_workbench.engine.losses import IGNORED
from tg_workbench.engine.measures import Tally, measured, tally_for


def seen(tally: Tally, said: Tensor, targets: Tensor) -> dict[str, float]:
    """What a tally tells that got the examples in three parts."""
    for part in (slice(0, 1), slice(1, 30), slice(30, None)):
        tally.add(said[part], targets[part])
    return tally.metrics()


def test_measures_of_classes_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    said, targets = torch.randn(100, 7, generator=draw), torch.randint(0, 4, (100,), generator=draw)
    said[:, 5] = -9.0  # neither there nor said: in no mean
    found = seen(tally_for("cross_entropy"), said, targets)
    answers = said.argmax(1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        targets, answers, average="macro", zero_division=0
    )
    expected = [metrics.accuracy_score(targets, answers), precision, recall, f1]
    assert [found[name] for name in ("accuracy", "precision", "recall", "f1")] == pytest.approx(expected)


def test_measures_of_yes_or_no_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    said, targets = torch.randn(100, 1, generator=draw), torch.rand(100, 1, generator=draw).round()
    found = seen(tally_for("bce"), said, targets)
    assert found["f1"] == pytest.approx(metrics.f1_score(targets, said > 0, average="macro"))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(targets, said > 0))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_measures_of_numbers_are_those_of_scikit_learn(offset: float) -> None:
    draw = np.random.default_rng(0)
    targets = draw.normal(size=(100, 1)) + offset
    said = targets + draw.normal(size=(100, 1)) / 3
    found = seen(tally_for("mse"), torch.tensor(said), torch.tensor(targets))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(targets, said))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(targets, said))
    assert found["r2"] == pytest.approx(metrics.r2_score(targets, said))


def test_tokens_that_are_not_learned_count_nowhere() -> None:
    said = torch.eye(3).unsqueeze(0)
    tally = tally_for("cross_entropy", is_text=True)
    tally.add(said, torch.tensor([[0, 2, IGNORED]]))
    found = measured(torch.tensor([math.log(2.0)]), tally)
    assert found.metrics == pytest.approx({"accuracy": 0.5, "perplexity": 2.0})


def test_what_cannot_be_told_is_left_out() -> None:
    tally = tally_for("mse")
    tally.add(torch.ones(2, 1), torch.ones(2, 1))
    assert tally.metrics() == {"mae": 0.0, "rmse": 0.0}
    assert measured(torch.zeros(0), tally_for("cross_entropy")).metrics == {}
