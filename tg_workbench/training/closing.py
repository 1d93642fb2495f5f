"""How a job's row ends, in the transaction that ends its operation: once, whoever ends it.

What leaves the machine then holds ids, states and ε, and an accuracy only where the dataset is public.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.events import Events, Logged, StatusChanged
from tg_workbench.execution import ring
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage.database import after_commit, now
from tg_workbench.training.specs import OVER_JOBS, JobStatus
from tg_workbench.training.tables import Job, TrainingClient

_REASONS = {
    "OperationCancelled": "stopped",
    "JobTimedOut": "timeout",
    "WorkerLost": "lost",
    "BudgetExhausted": "budget_exhausted",
}
"""A word for each error that is not a mistake in what was asked for."""


def job_of(session: Session, client_id: str) -> Job:
    """The job whose training client this is."""
    return session.exec(select(Job).where(Job.client_id == client_id)).one()


def fail_job(session: Session, folder: Path, client_id: str, error: Mapping[str, Any]) -> None:
    """The job of a client ends without a model: cancelled, or failed by `error`, as it is recorded."""
    status = JobStatus.CANCELLED if error["type"] == "OperationCancelled" else JobStatus.FAILED
    reason, job = _REASONS.get(error["type"], "error"), job_of(session, client_id)
    progress = _with_epsilon(session, job)
    end_job(session, folder, job, status, reason=reason, message=error["message"], progress=progress)


def end_job(
    session: Session,
    folder: Path,
    job: Job,
    status: JobStatus,
    *,
    accuracy: float | None = None,
    **values: Any,
) -> None:
    """The job is over, unless it is already: what it ends with, its last line, and what is told outside.

    `accuracy` leaves the machine: it is None for a job on a protected dataset.
    """
    changed = session.connection().execute(
        sa.update(Job)
        .where(col(Job.id) == job.id, col(Job.status).not_in(OVER_JOBS))
        .values(status=status, ended_at=now(), **values)
    )
    if not changed.rowcount:
        return
    reason, message = values.get("reason"), values.get("message")
    level = "ERROR" if status == JobStatus.FAILED else "INFO"
    line = f"Training {status}" + (f": {message}" if message else "")
    tell_job(session, folder, job.id, Logged(level, line), StatusChanged(status, _step(job), reason=reason))
    if job.started_at is not None:  # cancelled before it began, it was none
        completed = status == JobStatus.COMPLETED
        event = WebhookEvent.TRAINING_COMPLETED if completed else WebhookEvent.TRAINING_FAILED
        model_id = values.get("model_id")
        tell_outside(session, job, event, status=status, reason=reason, model_id=model_id, accuracy=accuracy)


def tell_job(session: Session, folder: Path, job_id: str, *facts: Logged | StatusChanged) -> None:
    """Record facts about a job, and ring for whoever follows it."""
    for fact in facts:
        Events(session).record(job_id, fact)
    after_commit(session, lambda: ring(folder, "api-*", job_id))


def tell_outside(session: Session, job: Job, event: WebhookEvent, **data: Any) -> None:
    """Put a notice about a job into the outbox."""
    known = {"job_id": job.id, "model_id": job.model_id, "dataset_id": job.dataset_id, "accuracy": None}
    Outbox(session).put(job.tenant_id, event, known | data, owner_id=job.owner_id)


def _with_epsilon(session: Session, job: Job) -> dict[str, Any]:
    """A job's progress with what its client has spent: a worker that was lost may not have told the job."""
    privacy = session.exec(select(TrainingClient.privacy).where(TrainingClient.id == job.client_id)).one()
    spent = (privacy or {}).get("spent_epsilon")
    if spent is None:
        return job.progress
    return {**job.progress, "metrics": {**job.progress.get("metrics", {}), "epsilon": spent}}


def _step(job: Job) -> int:
    return int((job.progress or {}).get("step", 0))
