"""What a job can be asked to be, whichever document asks: how it learns, what it watches, what it may reveal.

An unknown member is refused: what was meant to weaken or strengthen privacy, or to change what is learned,
is never passed over in silence. Bounds are the room's own, and told in its words.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tg_workbench.contracts.tg_tinker.schemas import DPConfig, ExactForm, Id, LoraConfig, Whole
from tg_workbench.errors import InvalidField
from tg_workbench.training import EarlyStopping, JobSpec, ScheduleSpec

ModelType = Annotated[str, Field(min_length=1, max_length=1000, description="`mlp`, `resnet18`, a folder …")]
JobName = Annotated[str, Field(max_length=200)]


class StoppingForm(ExactForm):
    """When to end early. On a protected dataset the noisy training loss is watched, whatever is named."""

    enabled: bool = True
    patience: Whole = 5
    monitor: str = "val_loss"
    min_delta: float = 0.0

    def as_spec(self) -> EarlyStopping | None:
        """The room's value."""
        return EarlyStopping(self.patience, self.monitor, self.min_delta) if self.enabled else None


class ScheduleForm(ExactForm):
    """How the learning rate changes: constant, linear, cosine, step or warmup."""

    name: str = "constant"
    warmup_steps: Whole = 0
    step_size: Whole | None = None
    gamma: float = 0.1
    floor: float = 0.0


class Learning(ExactForm):
    """How a job learns. The documents name the first few; the others are ours."""

    epochs: Whole = 10
    batch_size: Whole = 32
    learning_rate: float = 0.001
    optimizer: str = "adam"
    optimizer_options: dict[str, float | list[float]] = Field(default={})
    schedule: ScheduleForm = ScheduleForm()
    class_weights: Annotated[list[float], Field(max_length=100_000)] | Literal["balanced"] | None = None
    validation_split: float = 0.2
    early_stopping: StoppingForm | None = None
    seed: Whole | None = None
    checkpoint_every_steps: Whole | None = None
    timeout_seconds: Whole | None = None
    loss: str | None = None
    hidden_sizes: Annotated[list[Whole], Field(max_length=64)] = Field(default=[])
    precision: Literal["float32", "bf16-mixed"] = "float32"
    dp_config: DPConfig | None = None
    lora_config: LoraConfig | None = None

    def as_spec(self, dataset_id: str, model_type: str, **more: Any) -> JobSpec:
        """The room's value. Raises InvalidField."""
        plain = self.model_dump(include=_PLAIN)
        weights = self.class_weights
        values: dict[str, Any] = {
            **plain,
            "dataset_id": dataset_id,
            "model_type": model_type,
            "schedule": ScheduleSpec(**self.schedule.model_dump()),
            "class_weights": tuple(weights) if isinstance(weights, list) else weights,
            "early_stopping": self.early_stopping and self.early_stopping.as_spec(),
            "hidden_sizes": tuple(self.hidden_sizes),
            "dp": self.dp_config and self.dp_config.as_spec(steps_known=True),
            "lora": self.lora_config and self.lora_config.as_spec(),
        }
        return JobSpec(**(values | more))


_FORMS = {"schedule", "class_weights", "early_stopping", "hidden_sizes", "dp_config", "lora_config"}
_PLAIN = set(Learning.model_fields) - _FORMS
"""Members of `Learning` that the room takes as they are."""


class StartTraining(ExactForm):
    """A job as the Deep Learning Platform has it, and API Coordination. Name, GPUs and priority are ours."""

    dataset_id: Id
    model_type: ModelType
    hyperparameters: Learning = Learning()
    validation_split: float | None = None
    early_stopping: StoppingForm | None = None
    name: JobName = ""
    gpu_count: Whole = 0
    priority: Whole = 0

    def as_spec(self) -> JobSpec:
        """The room's value. Raises InvalidField."""
        more: dict[str, Any] = {}
        for field in ("validation_split", "early_stopping"):
            value = getattr(self, field)
            if value is None:
                continue
            if field in self.hyperparameters.model_fields_set:
                raise InvalidField(field, "Must be given once: beside hyperparameters, or among them")
            more[field] = value.as_spec() if isinstance(value, StoppingForm) else value
        return self.hyperparameters.as_spec(
            self.dataset_id,
            self.model_type,
            **more,
            name=self.name,
            gpu_count=self.gpu_count,
            priority=self.priority,
        )
