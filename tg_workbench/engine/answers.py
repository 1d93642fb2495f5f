"""Answers: what the numbers that a network gave say, as classes and as how many of them are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tg_workbench.engine.losses import IGNORED


def count_right(said: Tensor, targets: Tensor, loss_name: str) -> tuple[int, int]:
    """How many answers are right, of how many that can be. Both on one device."""
    if loss_name == "mse":
        return 0, 0
    if loss_name == "bce":
        return int(((said > 0) == (targets > 0.5)).sum()), targets.numel()
    learned = targets != IGNORED
    return int(((said.argmax(-1) == targets) & learned).sum()), int(learned.sum())


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
