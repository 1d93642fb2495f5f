"""What a job was asked to be: a frozen value, checked member by member when it is made, safe as JSON. Light.

What depends on the dataset (its size, its policy) is checked where the two meet: in `Jobs.submit` and, for a
dataset that was still being prepared then, in the worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tg_workbench.engine.schedules import SCHEDULES, Schedule
from tg_workbench.engine.specs import FLOAT32, LoraSpec, OptimizerSpec
from tg_workbench.errors import InvalidField, InvalidRequest
from tg_workbench.training.specs import ClientSpec, DPSpec

BALANCED = "balanced"
MONITORS = (
    *("loss", "accuracy", "val_loss", "val_accuracy", "val_precision", "val_recall", "val_f1"),
    *("val_mae", "val_rmse", "val_r2", "val_perplexity", "noisy_loss"),
)
"""What early stopping may watch: the mean of an epoch, or a measure of the rows that were held out."""
LOWER_IS_BETTER = ("loss", "val_loss", "val_mae", "val_rmse", "val_perplexity", "noisy_loss")
OPTIMIZERS = ("adamw", "adam", "sgd", "adafactor")
"""The engine's registry has the same names (a test compares them)."""
LOSSES = ("cross_entropy", "mse", "bce")
HIGHEST_PRIORITY = 10
MOST_EPOCHS = 10_000
LARGEST_BATCH = 100_000
MOST_LAYERS = 16
MOST_CLASSES = 100_000
LONGEST_SECONDS = 30 * 24 * 3600
LARGEST_SEED = 2**31 - 1
MOST_GPUS = 64
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """A run ends once what it watches has not become better by `min_delta` for `patience` epochs."""

    patience: int = 5
    monitor: str = "val_loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        _whole("early_stopping.patience", self.patience, 1, MOST_EPOCHS)
        _one_of("early_stopping.monitor", self.monitor, MONITORS)
        _number("early_stopping.min_delta", self.min_delta, 0.0, math.inf)


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """How the learning rate changes over the steps of a job."""

    name: str = "constant"
    warmup_steps: int = 0
    step_size: int | None = None
    """Of `step` alone: after so many steps each time the rate is multiplied by `gamma`."""
    gamma: float = 0.1
    floor: float = 0.0
    """Which part of the rate is left at the end."""

    def __post_init__(self) -> None:
        _one_of("schedule.name", self.name, tuple(SCHEDULES))
        _whole("schedule.warmup_steps", self.warmup_steps, 0, 10**9)
        if self.name == "step" and self.step_size is None:
            raise InvalidField("schedule.step_size", "The schedule step needs it: after how many steps")
        if self.step_size is not None:
            _whole("schedule.step_size", self.step_size, 1, 10**9)
        if not _is_number(self.gamma) or not 0.0 < self.gamma <= 1.0:
            raise InvalidField("schedule.gamma", "Must be above 0 and at most 1")
        _number("schedule.floor", self.floor, 0.0, 1.0)

    def over(self, steps: int) -> Schedule:
        """The schedule of a job of so many steps."""
        return Schedule(
            self.name, steps, min(self.warmup_steps, steps), self.step_size, self.gamma, self.floor
        )


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything a job is made from. `seed` and "balanced" weights are for public datasets only."""

    dataset_id: str
    model_type: str
    name: str = ""
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.001
    optimizer: str = "adam"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    """`weight_decay`, `betas`, `eps`, `momentum`, `tail_averaging`: what `OptimizerSpec` has besides."""
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    class_weights: tuple[float, ...] | str | None = None
    validation_split: float = 0.2
    early_stopping: EarlyStopping | None = None
    seed: int | None = None
    checkpoint_every_steps: int | None = None
    timeout_seconds: int | None = None
    gpu_count: int = 0
    priority: int = 0
    dp: DPSpec | None = None
    lora: LoraSpec | None = None
    loss: str | None = None
    hidden_sizes: tuple[int, ...] = ()
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        self._check_names()
        self._check_learning()
        self._check_running()
        self._check_privacy()
        self.as_client()  # what the optimizer, its options and the precision have to say

    def _check_names(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > LONGEST_NAME:
            raise InvalidField("name", f"Must be text of at most {LONGEST_NAME} characters")
        for name in ("dataset_id", "model_type"):
            value = getattr(self, name)
            if not isinstance(value, str) or not 1 <= len(value) <= 1000:
                raise InvalidField(name, "Must be text, and not empty")

    def _check_learning(self) -> None:
        _whole("epochs", self.epochs, 1, MOST_EPOCHS)
        _whole("batch_size", self.batch_size, 1, LARGEST_BATCH)
        if not _is_number(self.learning_rate) or not 0.0 < self.learning_rate <= 1.0:
            raise InvalidField("learning_rate", "Must be between 0 and 1")
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        if self.loss is not None:
            _one_of("loss", self.loss, LOSSES)
        if not _is_number(self.validation_split) or not 0.0 <= self.validation_split < 1.0:
            raise InvalidField("validation_split", "Must be 0 or above, and below 1")
        watched = "" if self.early_stopping is None else self.early_stopping.monitor
        if watched.startswith("val_") and not self.validation_split:
            raise InvalidField(
                "early_stopping.monitor", "There is nothing to measure it on: set a validation_split above 0"
            )
        self._check_weights()
        if len(self.hidden_sizes) > MOST_LAYERS:
            raise InvalidField("hidden_sizes", f"Must be at most {MOST_LAYERS} layers")
        for size in self.hidden_sizes:
            _whole("hidden_sizes", size, 1, 10**6)

    def _check_weights(self) -> None:
        weights = self.class_weights
        if weights is None or weights == BALANCED:
            return
        if isinstance(weights, str) or not 2 <= len(weights) <= MOST_CLASSES:
            raise InvalidField("class_weights", "Must be one number for each class, or 'balanced'")
        if not all(_is_number(weight) and 0.0 <= weight < math.inf for weight in weights) or not any(weights):
            raise InvalidField("class_weights", "Must be numbers from 0 on, and not all of them 0")

    def _check_running(self) -> None:
        if self.seed is not None:
            _whole("seed", self.seed, 0, LARGEST_SEED)
        if self.checkpoint_every_steps is not None:
            _whole("checkpoint_every_steps", self.checkpoint_every_steps, 1, 10**9)
        if self.timeout_seconds is not None:
            _whole("timeout_seconds", self.timeout_seconds, 1, LONGEST_SECONDS)
        _whole("gpu_count", self.gpu_count, 0, MOST_GPUS)
        _whole("priority", self.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)

    def _check_privacy(self) -> None:
        dp = self.dp
        if dp is None:
            return
        for name in ("noise_multiplier", "max_grad_norm", "target_epsilon", "noisy_loss_bound"):
            value = getattr(dp, name)
            if value is not None and (not _is_number(value) or value <= 0.0):
                raise InvalidField(f"dp.{name}", "Must be above 0 and finite")
        if dp.target_delta is not None and not (_is_number(dp.target_delta) and 0.0 < dp.target_delta < 1.0):
            raise InvalidField("dp.target_delta", "Must be between 0 and 1")
        if not _is_number(dp.noisy_loss_share) or not 0.0 < dp.noisy_loss_share < 1.0:
            raise InvalidField("dp.noisy_loss_share", "Must be between 0 and 1")

    @property
    def asks_for_privacy(self) -> bool:
        """Whether it asked for differential privacy by itself."""
        return self.dp is not None and self.dp.enabled

    def as_client(self) -> ClientSpec:
        """The training client that does it; its shape and its steps are known once the dataset is read."""
        options = self._options()
        try:
            optimizer = OptimizerSpec(self.optimizer, self.learning_rate, **options)
        except InvalidRequest as refusal:
            raise InvalidField("optimizer", str(refusal)) from refusal
        return ClientSpec(
            model_ref=self.model_type,
            lora=self.lora,
            optimizer=optimizer,
            dp=self.dp,
            batch_size=self.batch_size,
            dataset_id=self.dataset_id,
            loss=self.loss,
            precision=self.precision,
        )

    def _options(self) -> dict[str, Any]:
        known = ("weight_decay", "betas", "eps", "momentum", "tail_averaging")
        for name, value in self.optimizer_options.items():
            if name not in known:
                raise InvalidField("optimizer", f"Its options are {', '.join(known)}")
            values = value if name == "betas" else (value,)
            if not isinstance(values, list | tuple) or not all(_is_number(each) for each in values):
                raise InvalidField(f"optimizer.{name}", "Must be a number")
            highest = math.inf if name == "weight_decay" else 1.0
            for each in values:
                _number(f"optimizer.{name}", each, 0.0, highest)
        options = dict(self.optimizer_options)
        if "betas" in options:
            if len(options["betas"]) != 2 or max(options["betas"]) >= 1.0:
                raise InvalidField("optimizer.betas", "Must be two numbers from 0 to below 1")
            options["betas"] = tuple(options["betas"])
        return options

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobSpec:
        """From the database."""
        parts = dict(data)
        schedule, stopping = parts.pop("schedule"), parts.pop("early_stopping")
        dp, lora, weights = parts.pop("dp"), parts.pop("lora"), parts.pop("class_weights")
        return cls(
            **{**parts, "hidden_sizes": tuple(parts["hidden_sizes"])},
            schedule=ScheduleSpec(**schedule),
            early_stopping=EarlyStopping(**stopping) if stopping else None,
            dp=DPSpec(**dp) if dp else None,
            lora=LoraSpec(**{**lora, "target_modules": tuple(lora["target_modules"])}) if lora else None,
            class_weights=tuple(weights) if isinstance(weights, list) else weights,
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidField(name, f"Must be a whole number between {least} and {most}")


def _number(name: str, value: object, least: float, most: float) -> None:
    if not _is_number(value) or not least <= value <= most:  # type: ignore[operator]  # it is a number
        above = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
        raise InvalidField(name, f"Must be {above}")


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidField(name, f"Must be one of {', '.join(known)}")
