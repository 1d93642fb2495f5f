"""The Deep Learning Platform's routes for training: S3-09 … S3-12."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.deep_learning.errors import DEEP_LEARNING_FAILURES, DeepLearningRoute
from tg_workbench.contracts.job_desk import TheJobDesk
from tg_workbench.contracts.job_forms import StartTraining
from tg_workbench.contracts.job_views import (
    DEEP_LEARNING,
    elapsed_of,
    epsilon_of,
    note_of,
    percent_of,
    time_of,
)
from tg_workbench.contracts.providers import IdempotencyKey, JobId, JobsRoom, SignedIn
from tg_workbench.errors import ResultsNotFound
from tg_workbench.training import Job, JobStatus

router = APIRouter(
    prefix="/training",
    route_class=DeepLearningRoute,
    tags=["Deep Learning Platform"],
    responses=DEEP_LEARNING_FAILURES,
)


class Started(BaseModel):
    """A job that waits its turn. `estimated_time` is in seconds; null while the dataset's size is unknown."""

    job_id: str
    status: str
    created_at: str
    estimated_time: int | None
    warnings: list[str]

    @classmethod
    def of(cls, job: Job) -> Started:
        """A job of the room."""
        seconds = job.estimated_seconds
        return cls(
            job_id=job.id,
            status=_status(job),
            created_at=utc(job.created_at),
            estimated_time=None if seconds is None else max(1, round(seconds)),
            warnings=job.warnings,
        )


class TrainingStatus(BaseModel):
    """How far a job is. `metrics` answer the dataset's curator; `metrics_note` says what ε does not cover."""

    job_id: str
    status: str
    progress: int
    current_epoch: int
    total_epochs: int
    metrics: dict[str, float | None]
    started_at: str | None
    elapsed_time: int
    epsilon: float | None
    metrics_note: str | None
    message: str | None
    """Why it ended as it did."""

    @classmethod
    def of(cls, job: Job) -> TrainingStatus:
        """A job of the room."""
        metrics = job.progress.get("metrics", {})
        return cls(
            job_id=job.id,
            status=_status(job),
            progress=percent_of(job),
            current_epoch=job.progress.get("epoch", 0),
            total_epochs=job.progress.get("total_epochs", job.spec["epochs"]),
            metrics={name: metrics.get(name) for name in ("loss", "accuracy", "val_loss", "val_accuracy")},
            started_at=time_of(job.started_at),
            elapsed_time=elapsed_of(job),
            epsilon=epsilon_of(job),
            metrics_note=note_of(job),
            message=job.message,
        )


class TrainingResults(BaseModel):
    """What came of a job that completed."""

    model_config = ConfigDict(protected_namespaces=())

    job_id: str
    status: str
    model_id: str | None
    final_metrics: dict[str, float | None]
    training_history: dict[str, list[float | None]]
    duration: int
    completed_at: str | None
    epsilon: float | None
    metrics_note: str | None

    @classmethod
    def of(cls, job: Job) -> TrainingResults:
        """A job of the room. Raises ResultsNotFound unless it completed."""
        if job.status != JobStatus.COMPLETED:
            raise ResultsNotFound(_status(job))
        final: dict[str, Any] = job.final_metrics or {}
        return cls(
            job_id=job.id,
            status=_status(job),
            model_id=job.model_id,
            final_metrics={name: value for name, value in final.items() if name not in _BESIDE},
            training_history={name: values for name, values in job.history.items() if name not in _BESIDE},
            duration=elapsed_of(job),
            completed_at=time_of(job.ended_at),
            epsilon=epsilon_of(job),
            metrics_note=note_of(job),
        )


class Stopped(BaseModel):
    """A job that was told to stop."""

    job_id: str
    status: str
    message: str

    @classmethod
    def of(cls, job: Job) -> Stopped:
        """A job of the room. One that could not end in time stops at its next step: that is stored."""
        if job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
            return cls(job_id=job.id, status=_status(job), message=f"Training job had {job.status} before")
        message = (
            "Training job stopped successfully" if job.ended_at else "Training job stops at its next step"
        )
        return cls(job_id=job.id, status="stopped", message=message)


_BESIDE = ("epsilon", "metrics_note")
"""Told beside the metrics, not among them."""


@router.post("/start", status_code=201)
async def start_training(
    body: StartTraining, owner: SignedIn, jobs: JobsRoom, key: IdempotencyKey = None
) -> Started:
    """Start a new model training job."""
    return Started.of(jobs.submit(owner, body.as_spec(), idempotency_key=key))


@router.get("/status/{job_id}")
async def get_training_status(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> TrainingStatus:
    """Check the status of a training job."""
    return TrainingStatus.of(jobs.get(owner, job_id))


@router.get("/results/{job_id}")
async def get_training_results(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> TrainingResults:
    """Get final training results: 404 while there are none, with what the job does in the message."""
    return TrainingResults.of(jobs.get(owner, job_id))


@router.post("/stop/{job_id}")
async def stop_training(job_id: JobId, desk: TheJobDesk) -> Stopped:
    """Stop a running training job; answers once it has saved what it has, or after ten seconds."""
    return Stopped.of(await desk.stop(job_id))


def _status(job: Job) -> str:
    return DEEP_LEARNING.get(job.status, str(job.status))
