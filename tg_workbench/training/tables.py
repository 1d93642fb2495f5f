"""What the training room stores: clients, their operations, the artifacts they saved, and jobs."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now
from tg_workbench.training.specs import JobStatus, Status


class TrainingClient(SQLModel, table=True):
    """A model being trained. JSON columns hold what the worker says of it."""

    __tablename__ = "training_clients"
    __table_args__ = (sa.UniqueConstraint("owner_id", "idempotency_key"),)

    id: str = Field(primary_key=True)
    owner_id: str = Field(index=True)
    tenant_id: str
    model_ref: str
    dataset_id: str | None = Field(default=None, index=True)
    config: dict[str, Any] = Field(sa_type=sa.JSON)
    status: str = Status.INITIALIZING
    reason: str | None = None
    paused: bool = False
    stop_requested: bool = False
    step: int = 0
    next_seq: int = 1
    plan: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    privacy: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    dp_metrics: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    lineage: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    last_checkpoint: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    idempotency_key: str | None = None
    fingerprint: str | None = None
    job_id: str | None = Field(default=None, index=True)
    """The job whose work it does. Such a client is the job's own: nobody asks it for anything else."""
    created_at: float = Field(default_factory=now)

    @classmethod
    def of(cls, row: Any) -> TrainingClient:
        """What a prepared statement has read, apart from any session."""
        return cls(**_read(row, "config", "plan", "privacy", "dp_metrics", "lineage", "last_checkpoint"))


class Operation(SQLModel):
    """One thing a training client was asked to do, which is also the future of its answer.

    A plain value: an object that the ORM watches costs ten times as much. `OperationRow` is where it lies.
    """

    id: str = Field(primary_key=True)
    client_id: str
    owner_id: str
    seq: int
    kind: str
    status: str = "pending"
    idempotency_key: str | None = None
    fingerprint: str
    content_type: str
    payload: bytes | None = None
    progress: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    error: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    attempt: int = 0
    created_at: float = Field(default_factory=now)
    started_at: float | None = None
    completed_at: float | None = None

    @classmethod
    def of(cls, row: Any) -> Operation:
        """What a prepared statement has read."""
        return cls(**_read(row, "progress", "result", "error"))


class OperationRow(Operation, table=True):
    """A stored operation."""

    __tablename__ = "operations"
    __table_args__ = (
        sa.UniqueConstraint("client_id", "seq"),
        sa.UniqueConstraint("client_id", "idempotency_key"),
        sa.Index("ix_operations_queue", "client_id", "status", "seq"),
        sa.Index(
            "ix_operations_runs",
            "owner_id",
            "status",
            sqlite_where=sa.text("kind = 'train'"),
            postgresql_where=sa.text("kind = 'train'"),
        ),
    )


class Artifact(SQLModel, table=True):
    """A stored checkpoint: sealed bytes in a blob, and the lineage its weights carry."""

    __tablename__ = "artifacts"

    id: str = Field(primary_key=True)
    client_id: str = Field(index=True)
    owner_id: str = Field(index=True)
    tenant_id: str
    step: int
    automatic: bool = False
    size_bytes: int
    blob: str
    key_id: str
    content_hash: str
    lineage: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    dp_metrics: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    created_at: float = Field(default_factory=now)


class Job(SQLModel, table=True):
    """A training run that goes to its end by itself. Its worker writes what it says of the training."""

    __tablename__ = "jobs"
    __table_args__ = (
        sa.UniqueConstraint("owner_id", "idempotency_key"),
        sa.Index("ix_jobs_owner", "owner_id", "status"),
    )

    id: str = Field(primary_key=True)
    owner_id: str
    tenant_id: str
    name: str
    dataset_id: str = Field(index=True)
    model_type: str
    spec: dict[str, Any] = Field(sa_type=sa.JSON)
    client_id: str = Field(index=True)
    status: str = JobStatus.QUEUED
    reason: str | None = None
    """Why it ended, in a word: early_stopping, budget_exhausted, stopped, timeout, lost, error."""
    message: str | None = None
    """The same in a sentence."""
    priority: int = 0
    progress: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    history: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    state: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    """What its worker has to know of the workers before it."""
    final_metrics: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    model_id: str | None = None
    warnings: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    attempt: int = 1
    estimated_seconds: float | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    created_at: float = Field(default_factory=now)
    started_at: float | None = None
    ended_at: float | None = None


class JobPace(SQLModel, table=True):
    """How many seconds a tenant's jobs of one kind have taken for each second that was guessed."""

    __tablename__ = "job_paces"

    tenant_id: str = Field(primary_key=True)
    model_type: str = Field(primary_key=True)
    """And whether they are private, and about how long."""
    seconds: float
    jobs: int = 1


def _read(row: Any, *of_json: str) -> dict[str, Any]:
    """A row's values by column, with the text in JSON columns read."""
    values: dict[str, Any] = row._asdict()
    for name in of_json:
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return values
