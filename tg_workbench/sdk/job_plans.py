"""What a job is asked to be: how it learns, when it ends, and the request that makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk.plans import LoRA, Optimizer, Privacy, dp_config_of


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """End once what is watched has not become better by `min_delta` for `patience` epochs.

    On a protected dataset that is the noisy training loss, whatever is named: raw measures may not steer.
    """

    patience: int = 5
    monitor: str = "val_loss"
    """loss, accuracy, val_loss, val_accuracy, val_precision, val_recall, val_f1, val_mae, val_rmse, val_r2,
    val_perplexity or noisy_loss."""
    min_delta: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the learning rate changes: constant, linear, cosine, step or warmup."""

    name: str = "constant"
    warmup_steps: int = 0
    step_size: int | None = None
    """Of `step` alone: after so many steps each time the rate is multiplied by `gamma`."""
    gamma: float = 0.1
    floor: float = 0.0
    """Which part of the rate is left at the end."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How a job learns. What is None is left to the workbench."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: str | Optimizer | None = None
    schedule: str | Schedule | None = None
    class_weights: Sequence[float] | str | None = None
    validation_split: float | None = None
    early_stopping: bool | EarlyStopping | None = None
    loss: str | None = None
    hidden_sizes: Sequence[int] | None = None
    precision: str | None = None
    lora: LoRA | None = None
    privacy: Privacy | bool | None = None
    seed: int | None = None
    checkpoint_every_steps: int | None = None
    timeout_seconds: int | None = None

    def as_wire(self) -> dict[str, Any]:
        """The request's `learning`; what was not said is left out, so the workbench's defaults hold.

        Raises InvalidRequest.
        """
        weights, sizes = self.class_weights, self.hidden_sizes
        told = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            **self._optimizer(),
            "schedule": self._schedule(),
            "class_weights": weights if isinstance(weights, str) else _listed("class_weights", weights),
            "validation_split": self.validation_split,
            "early_stopping": self._early_stopping(),
            "loss": self.loss,
            "hidden_sizes": _listed("hidden_sizes", sizes),
            "precision": self.precision,
            "lora_config": self.lora.as_wire() if self.lora else None,
            "dp_config": dp_config_of(self.privacy),
            "seed": self.seed,
            "checkpoint_every_steps": self.checkpoint_every_steps,
            "timeout_seconds": self.timeout_seconds,
        }
        return {name: value for name, value in told.items() if value is not None}

    def _optimizer(self) -> dict[str, Any]:
        """An optimizer that is given whole brings its constants; `learning_rate` beside it comes first."""
        chosen = self.optimizer
        if not isinstance(chosen, Optimizer):
            return {"optimizer": chosen, "learning_rate": self.learning_rate}
        options = chosen.as_wire()
        name, rate = options.pop("name"), options.pop("learning_rate")
        rate = rate if self.learning_rate is None else self.learning_rate
        return {"optimizer": name, "learning_rate": rate, "optimizer_options": options}

    def _schedule(self) -> dict[str, Any] | None:
        if self.schedule is None:
            return None
        chosen = Schedule(self.schedule) if isinstance(self.schedule, str) else self.schedule
        if not isinstance(chosen, Schedule):
            raise InvalidRequest('schedule is a name, "cosine" for one, or Schedule(…)')
        return asdict(chosen)

    def _early_stopping(self) -> dict[str, Any] | None:
        chosen = self.early_stopping
        if chosen is None or isinstance(chosen, bool):
            return None if chosen is None else {"enabled": chosen}
        if not isinstance(chosen, EarlyStopping):
            raise InvalidRequest("early_stopping is True, False or EarlyStopping(patience=…)")
        return asdict(chosen)


def _listed(name: str, values: Any) -> list[Any] | None:
    if values is not None and not isinstance(values, Iterable):
        raise InvalidRequest(f"{name} are a list of numbers")
    return None if values is None else list(values)
