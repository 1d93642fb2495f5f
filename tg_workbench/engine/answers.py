"""Answers: what the numbers that a network gave say, as classes and as how many of them are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tg_workbench.engine.losses import IGNORED


class RightAnswers:
    """How many answers are right, of how many that can be."""

    def __init__(self, loss_name: str) -> None:
        self._loss_name = loss_name
        self._right = self._all = 0

    def add(self, said: Tensor, targets: Tensor) -> None:
        """Count some examples in. Both on one device."""
        if self._loss_name == "bce":
            self._right += int(((said > 0) == (targets > 0.5)).sum())
            self._all += targets.numel()
        elif self._loss_name != "mse":
            learned = targets != IGNORED
            self._right += int(((said.argmax(-1) == targets) & learned).sum())
            self._all += int(learned.sum())

    @property
    def accuracy(self) -> float | None:
        """Which part of them is right; None where answers are not right or wrong."""
        return self._right / self._all if self._all else None

    def metrics(self) -> dict[str, float]:
        """Accuracy, if it can be told."""
        return {} if self.accuracy is None else {"accuracy": self.accuracy}


def predictions(said: Tensor, loss_name: str | None, outputs: int) -> list[dict[str, Any]]:
    """What [examples, outputs] say, learned by this loss: {class, confidence} of each example, or {value}."""
    if loss_name == "mse" or (loss_name is None and outputs == 1):
        return [{"value": row[0] if len(row) == 1 else row} for row in said.tolist()]
    if loss_name == "bce" and outputs == 1:
        return classes_of(torch.cat((torch.zeros_like(said), said), dim=1))
    return classes_of(said)


def classes_of(logits: Tensor) -> list[dict[str, Any]]:
    """The likeliest class of each example of [examples, classes], and how sure of it the network is."""
    confidence, number = logits.softmax(-1).max(-1)
    return [
        {"class": int(klass), "confidence": float(sure)}
        for klass, sure in zip(number, confidence, strict=True)
    ]


def last_of(said: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """The answer for each example; of [examples, tokens, vocabulary] what comes after each text."""
    if said.dim() < 3 or "attention_mask" not in inputs:
        return said
    last = inputs["attention_mask"].sum(1).clamp(min=1) - 1
    return said[torch.arange(len(said)), last.to(said.device)]
