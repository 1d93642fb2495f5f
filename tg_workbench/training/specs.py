"""What a training client was asked to be: frozen values, safe to store as JSON. Light: the API reads them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from tg_workbench.engine.specs import (
    BOOK_KEEPING,
    FLOAT32,
    Architecture,
    LoraSpec,
    OptimizerSpec,
    check_precision,
)
from tg_workbench.execution import WorkKind
from tg_workbench.settings import Settings

WORK_KIND = "training_client"
JOB_KIND = "job"


def work_kinds(settings: Settings) -> tuple[WorkKind, ...]:
    """The work that training makes, for the dispatcher."""
    entry_point = "tg_workbench.training.worker:run"
    return (
        WorkKind(WORK_KIND, entry_point, settings.max_workers),
        WorkKind(JOB_KIND, entry_point, settings.max_jobs),
    )


ROW_MODELS = ("linear", "logistic", "mlp", "cnn", "tempered-cnn", "scattering", "resnet18", "resnet50")
LANGUAGE_MODELS = ("tiny-llama", "smollm2-135m")
MODEL_REFS = (*ROW_MODELS, *LANGUAGE_MODELS)
"""Models that need no folder. The engine's registry has the same names (a test compares them)."""


class Status(StrEnum):
    """Where a training client stands."""

    INITIALIZING = "initializing"
    READY = "ready"
    BUSY = "busy"
    PAUSED = "paused"
    ERROR = "error"
    TERMINATED = "terminated"


ENDED = (Status.ERROR, Status.TERMINATED)


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE_JOBS = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.STOPPING)
OVER_JOBS = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class OperationKind(StrEnum):
    """What a training client can be asked to do."""

    FORWARD_BACKWARD = "forward_backward"
    OPTIM_STEP = "optim_step"
    SAMPLE = "sample"
    SAVE_STATE = "save_state"
    LOAD_STATE = "load_state"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PREDICT = "predict"
    AUDIT = "audit"
    FIT = "fit"
    """A job's one operation: never asked for by a caller."""


@dataclass(frozen=True, slots=True)
class DPSpec:
    """The privacy that was asked for.

    `noise_multiplier` None: calibrated to `target_epsilon` over `max_steps`.
    """

    enabled: bool = True
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0
    target_epsilon: float | None = None
    target_delta: float | None = None
    accountant_type: str = "prv"
    hardened_noise: bool = False
    noisy_loss_bound: float | None = None
    noisy_loss_share: float = 0.05
    engine: str = BOOK_KEEPING
    unit: str | None = None
    """example, record or unit; None: what the dataset says, else example."""
    max_participations: int | None = None
    """In how many steps one record or unit may be, where the caller chooses the rows."""
    truncated_batch_size: int | None = None
    """Where the server draws: a larger draw is cut to so many."""

    @property
    def counts_participants(self) -> bool:
        """Whether the caller's rows come with ids, and ε is that of whoever was in most steps."""
        return self.unit in ("record", "unit")


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """Everything a training client is created from."""

    model_ref: str
    lora: LoraSpec | None = None
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    dp: DPSpec | None = None
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_steps: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    dataset_id: str | None = None
    architecture: Architecture | None = None
    loss: str | None = None
    gradient_checkpointing: bool = False
    audit_canaries: int = 0
    """How many made-up examples may be learned beside the dataset, each by its own coin."""
    audit_seed: str | None = None
    """What they and their coins are made from. A secret: never shown."""
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        check_precision(self.precision, self.dp.engine if self.dp and self.dp.enabled else None)

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ClientSpec:
        """From the database."""
        parts = dict(data)
        optimizer = dict(parts.pop("optimizer"))
        optimizer["betas"] = tuple(optimizer["betas"])
        lora, dp, architecture = parts.pop("lora"), parts.pop("dp"), parts.pop("architecture")
        return cls(
            **parts,
            optimizer=OptimizerSpec(**optimizer),
            lora=LoraSpec(**{**lora, "target_modules": tuple(lora["target_modules"])}) if lora else None,
            dp=DPSpec(**dp) if dp else None,
            architecture=Architecture.from_json(architecture) if architecture else None,
        )
