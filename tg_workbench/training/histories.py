"""What a job has seen at the end of each epoch, and whether it has seen enough.

Stopping is a function of the history alone, so a worker that takes a job up decides as the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tg_workbench.training.job_specs import LOWER_IS_BETTER, EarlyStopping

SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy", "epsilon")
"""What every history has, be it a list of nothing."""
History = dict[str, list[Any]]


def begun(of: Mapping[str, Sequence[Any]] | None = None) -> History:
    """An empty history, or a copy of one."""
    return {name: [] for name in SHOWN} | {name: list(values) for name, values in (of or {}).items()}


def epochs_of(history: Mapping[str, Sequence[Any]]) -> int:
    """How many epochs are in it."""
    return len(history["loss"])


def with_epoch(history: History, values: Mapping[str, Any]) -> History:
    """The history with one more epoch; what was not measured in it, or never before, is None."""
    epochs = epochs_of(history)
    names = [*history, *(name for name in values if name not in history)]
    return {name: [*history.get(name, [None] * epochs), values.get(name)] for name in names}


def best_epoch(watched: Sequence[float | None], rule: EarlyStopping) -> int | None:
    """The epoch (from 0) that was better than all before it by `min_delta`; None before there is a value."""
    best, best_value = None, 0.0
    sign = -1.0 if rule.monitor in LOWER_IS_BETTER else 1.0
    for epoch, value in enumerate(watched):
        if value is not None and (best is None or sign * value > best_value + rule.min_delta):
            best, best_value = epoch, sign * value
    return best


def is_enough(watched: Sequence[float | None], rule: EarlyStopping) -> bool:
    """Whether the last `patience` epochs have brought nothing better."""
    best = best_epoch(watched, rule)
    return best is not None and len(watched) - 1 - best >= rule.patience
