"""Measures: how good a model's answers are, added up part by part, in as much memory as there are classes.

Of classes: accuracy, and precision, recall and F1 as their plain means over the classes that occur in the
targets or the answers (macro, as scikit-learn takes them; of nothing said or nothing there: 0). Of numbers:
mean absolute error, root of the mean squared error, R². Of texts that go on: accuracy and perplexity.

Pitfalls: measures are as raw as the examples they are of. None is covered by an ε.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tg_workbench.engine.answers import RightAnswers

LARGEST_PERPLEXITY = 1e9


@dataclass(frozen=True, slots=True)
class Measures:
    """The mean loss of some examples, and what their task is measured by."""

    loss: float
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    """By name; what cannot be told of these examples is left out."""


class Tally(Protocol):
    """What was seen of answers and targets so far."""

    def add(self, said: Tensor, targets: Tensor) -> None:
        """Count some examples in. Both on one device."""
        ...

    def metrics(self) -> dict[str, float]:
        """What it comes to."""
        ...


def tally_for(loss_name: str, *, is_text: bool = False) -> Tally:
    """What counts answers that were learned by this loss; `is_text`: they are tokens, one after another."""
    if is_text:
        return RightAnswers(loss_name)
    if loss_name == "mse":
        return NumberTally()
    return ClassTally(is_yes_or_no=loss_name == "bce")


def measured(losses: Tensor, tally: Tally) -> Measures:
    """The measures of examples with these losses."""
    loss = float(losses.double().mean()) if len(losses) else 0.0
    metrics = tally.metrics()
    if isinstance(tally, RightAnswers):
        metrics["perplexity"] = min(LARGEST_PERPLEXITY, math.exp(min(loss, 700.0)))
    return Measures(loss, len(losses), metrics)


class ClassTally:
    """How often each class was there, was said, and was said rightly; of `bce`: no and yes of each output."""

    def __init__(self, *, is_yes_or_no: bool = False) -> None:
        self._is_yes_or_no = is_yes_or_no
        self._there = self._said = self._right = torch.zeros(0, dtype=torch.int64)

    def add(self, said: Tensor, targets: Tensor) -> None:
        """Count some examples in."""
        classes = 2 if self._is_yes_or_no else said.shape[-1]
        if self._is_yes_or_no:
            answers, true = (said > 0).long().flatten(), (targets > 0.5).long().flatten()
        else:
            answers, true = said.argmax(-1), targets
        counts = [_counted(each, classes) for each in (true, answers, true[answers == true])]
        if not len(self._there):
            self._there, self._said, self._right = counts
        else:
            self._there, self._said, self._right = (
                held + found
                for held, found in zip((self._there, self._said, self._right), counts, strict=True)
            )

    def metrics(self) -> dict[str, float]:
        """Accuracy, and precision, recall and F1 over the classes that occur."""
        occurs = (self._there + self._said) > 0
        there, said, right = (each[occurs].double() for each in (self._there, self._said, self._right))
        if not len(there):
            return {}
        return {
            "accuracy": float(right.sum() / there.sum()),
            "precision": float((right / said.clamp(min=1)).mean()),
            "recall": float((right / there.clamp(min=1)).mean()),
            "f1": float((2 * right / (there + said)).mean()),
        }


class NumberTally:
    """Errors of numbers, and how far the targets lie from their mean (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self._count = 0
        self._absolute = self._squared = 0.0
        self._mean = self._spread = torch.zeros(0, dtype=torch.float64)

    def add(self, said: Tensor, targets: Tensor) -> None:
        """Count some examples in."""
        true = targets.double().flatten(1).cpu()
        if not len(true):
            return
        errors = said.double().flatten(1).cpu() - true
        self._absolute += float(errors.abs().sum())
        self._squared += float(errors.square().sum())
        mean = true.mean(0)
        spread = (true - mean).square().sum(0)
        if not self._count:
            self._count, self._mean, self._spread = len(true), mean, spread
            return
        together, apart = self._count + len(true), mean - self._mean
        self._spread = self._spread + spread + apart.square() * (self._count * len(true) / together)
        self._mean = self._mean + apart * (len(true) / together)
        self._count = together

    def metrics(self) -> dict[str, float]:
        """Mean absolute error, root mean squared error, and R² over all outputs where targets differ."""
        if not self._count:
            return {}
        numbers = self._count * len(self._mean)
        found = {"mae": self._absolute / numbers, "rmse": math.sqrt(self._squared / numbers)}
        spread = float(self._spread.sum())
        return {**found, "r2": 1.0 - self._squared / spread} if spread > 0.0 else found


def _counted(classes: Tensor, most: int) -> Tensor:
    return torch.bincount(classes.flatten().cpu(), minlength=most)
