"""What TG-Tinker answers with: views of clients, futures, samples and checkpoints.

A paused client is shown as `busy`, the document's nearest word; `paused` beside it says which.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.route import ErrorNote
from tg_workbench.contracts.tg_tinker.errors import code_of, facts_of
from tg_workbench.events import EventRow
from tg_workbench.training import Operation, Status, TrainingClient

ClientStatus = Literal["initializing", "ready", "busy", "error", "terminated"]
FutureStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class View(BaseModel):
    """An answer."""

    model_config = ConfigDict(protected_namespaces=())


class DPMetrics(View):
    """What one step cost and what was clipped. The norms are raw: they answer the owner only.

    `noisy_loss` is covered by ε, where `noisy_loss_bound` asked for one.
    """

    noise_applied: bool
    epsilon_spent: float
    total_epsilon: float
    delta: float
    grad_norm_before_clip: float | None
    grad_norm_after_clip: float | None
    num_clipped: int | None
    noisy_loss: float | None = None


class PrivacyView(View):
    """A budget, with everything ε needs to mean something."""

    guarantee: Literal["differential_privacy", "none"]
    mode: Literal["sampled", "client_batches"] | None
    unit: str
    relation: str
    accountant: str | None
    target_epsilon: float | None
    delta: float | None
    noise_multiplier: float | None
    max_grad_norm: float | None
    sample_rate: float | None
    truncated_batch_size: int | None = None
    max_participations: int | None = None
    noisy_loss_bound: float | None = None
    spent_epsilon: float | None
    reserved_epsilon: float | None
    steps: int
    steps_left: int | None
    dataset_id: str | None
    dataset_spent_epsilon: float | None
    dataset_epsilon_cap: float | None
    note: str


class CheckpointNote(View):
    """The newest checkpoint of a client."""

    artifact_id: str
    step: int
    automatic: bool
    created_at: str


class ClientView(View):
    """A training client."""

    training_client_id: str
    tenant_id: str
    model_ref: str
    status: ClientStatus
    step: int
    created_at: str
    config: dict[str, Any]
    dp_metrics: DPMetrics | None
    reason: str | None
    paused: bool
    privacy: PrivacyView | None
    last_checkpoint: CheckpointNote | None

    @classmethod
    def of(cls, client: TrainingClient, status: Status) -> ClientView:
        """The client as the document shows it."""
        shown = Status.BUSY if status is Status.PAUSED else status
        checkpoint = client.last_checkpoint
        return cls(
            training_client_id=client.id,
            tenant_id=client.tenant_id,
            model_ref=client.model_ref,
            status=shown.value,  # type: ignore[arg-type]  # every Status but PAUSED is one of the document's
            step=client.step,
            created_at=iso(client.created_at),
            config=_config(client.config),
            dp_metrics=DPMetrics(**client.dp_metrics) if client.dp_metrics else None,
            reason=client.reason,
            paused=client.paused,
            privacy=PrivacyView(**client.privacy) if client.privacy else None,
            last_checkpoint=CheckpointNote(**dated(checkpoint)) if checkpoint else None,
        )


class ClientList(View):
    """A page of clients, the newest first."""

    training_clients: list[ClientView]
    total: int
    limit: int
    offset: int


class FutureResult(View):
    """How a future ended."""

    future_id: str
    status: FutureStatus
    result: dict[str, Any] | None
    error: ErrorNote | None

    @classmethod
    def of(cls, operation: Operation) -> FutureResult:
        """The end of an operation."""
        return cls(
            future_id=operation.id,
            status=operation.status,  # type: ignore[arg-type]  # the queue's words are the document's
            result=result_of(operation.result),
            error=error_of(operation),
        )


class FutureView(FutureResult):
    """A future: what was asked, and how far it is."""

    created_at: str
    training_client_id: str
    operation: str
    started_at: str | None
    completed_at: str | None

    @classmethod
    def of(cls, operation: Operation) -> FutureView:
        """An operation as the document shows it."""
        return cls(
            **dict(FutureResult.of(operation)),
            created_at=iso(operation.created_at),
            training_client_id=operation.client_id,
            operation=operation.kind,
            started_at=iso(operation.started_at) if operation.started_at else None,
            completed_at=iso(operation.completed_at) if operation.completed_at else None,
        )


class Cancelled(View):
    """Whether a future was cancelled; false when it had begun."""

    success: bool


class SampleText(View):
    """One prompt and its continuation."""

    prompt: str
    completion: str
    tokens_generated: int
    finish_reason: Literal["stop", "length", "error"]


class Samples(View):
    """What the model wrote."""

    samples: list[SampleText]
    model_step: int
    sampling_config: dict[str, Any]


class Encryption(View):
    """How a checkpoint is sealed."""

    algorithm: str
    key_id: str


class ArtifactView(View):
    """A checkpoint."""

    artifact_id: str
    artifact_type: str
    size_bytes: int
    encryption: Encryption
    content_hash: str
    metadata: dict[str, Any]
    created_at: str
    step: int
    dp_metrics: DPMetrics | None


class Loaded(View):
    """A client that has taken up a checkpoint."""

    training_client_id: str
    loaded_artifact_id: str
    step: int
    status: ClientStatus


def iso(seconds: float) -> str:
    """A time of ours as ISO 8601, UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def error_of(operation: Operation) -> ErrorNote | None:
    """The error a future has stored, in the document's words."""
    return None if operation.error is None else note_of(operation.error)


def note_of(record: dict[str, Any]) -> ErrorNote:
    """A stored error in the document's words."""
    failure = Failure.of_record(record)
    return ErrorNote(code=code_of(failure)[0], message=failure.message, details=facts_of(failure))


def message_of(event: EventRow) -> dict[str, Any]:
    """An event as listeners get it, its error in the document's words."""
    message = event.as_message()
    if error := message["data"].get("error"):
        message["data"]["error"] = note_of(error).model_dump()
    return message


def result_of(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """An operation's result with its times as the document writes them."""
    return None if result is None else dated(result)


def dated(values: dict[str, Any]) -> dict[str, Any]:
    """The same members, with the time as the document writes it."""
    created_at = values.get("created_at")
    return {**values, "created_at": iso(created_at)} if isinstance(created_at, float) else values


def _config(stored: dict[str, Any]) -> dict[str, Any]:
    """A client's configuration in the document's names; what we add to an optimizer shows if it is used."""
    names = {"lora": "lora_config", "dp": "dp_config"}
    config = {names.get(name, name): value for name, value in stored.items() if name != "model_ref"}
    ours = ("momentum", "tail_averaging")
    config.pop("audit_seed", None)  # who knows it knows which canaries were learned
    if not config.get("audit_canaries"):
        config.pop("audit_canaries", None)
    config["optimizer"] = {k: v for k, v in config["optimizer"].items() if k not in ours or v}
    return config
