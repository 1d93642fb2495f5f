"""API Coordination's routes for training jobs: S4-02 … S4-09."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel

from tg_workbench.contracts.coordination.errors import (
    COORDINATION_FAILURES,
    CoordinationRoute,
    StatisticsRoute,
)
from tg_workbench.contracts.coordination.schemas import Done
from tg_workbench.contracts.job_forms import StartTraining
from tg_workbench.contracts.job_views import COORDINATION, JobFacts, elapsed_of, epsilon_of, note_of
from tg_workbench.contracts.providers import (
    IdempotencyKey,
    InboxRoom,
    JobId,
    JobsRoom,
    JobStatisticsRoom,
    Limit,
    Offset,
    SignedIn,
)
from tg_workbench.errors import JobEnded
from tg_workbench.observability.job_statistics import Durations, JobCounts, JobStatistics, Spent
from tg_workbench.training import Job, JobStatus

MOST_SHOWN = 5
router = APIRouter(
    prefix="/api", route_class=CoordinationRoute, tags=["API Coordination"], responses=COORDINATION_FAILURES
)
Data = TypeVar("Data")


class Single(BaseModel, Generic[Data]):
    """API Coordination's envelope around one thing."""

    id: str
    data: Data


class JobList(BaseModel):
    """A page of jobs."""

    data: list[JobFacts]
    total: int
    limit: int
    offset: int


class JobMetrics(BaseModel):
    """What a job has measured, for the curator of its dataset; `metrics_note`: what ε does not cover."""

    status: str
    epoch: int
    total_epochs: int
    step: int
    metrics: dict[str, float | None]
    history: dict[str, list[float | None]]
    final_metrics: dict[str, float | None] | None
    epsilon: float | None
    metrics_note: str | None
    elapsed_seconds: int

    @classmethod
    def of(cls, job: Job) -> JobMetrics:
        """A job of the room."""
        progress: dict[str, Any] = job.progress
        final = job.final_metrics
        return cls(
            status=COORDINATION.get(job.status, str(job.status)),
            epoch=progress.get("epoch", 0),
            total_epochs=progress.get("total_epochs", job.spec["epochs"]),
            step=progress.get("step", 0),
            metrics=progress.get("metrics", {}),
            history=job.history,
            final_metrics=final and {name: value for name, value in final.items() if name != "metrics_note"},
            epsilon=epsilon_of(job),
            metrics_note=note_of(job),
            elapsed_seconds=elapsed_of(job),
        )


class TrainingStats(BaseModel):
    """Training jobs by how they stand. The five add up to the first."""

    total_jobs: int
    completed: int
    running: int
    failed: int
    pending: int
    cancelled: int

    @classmethod
    def of(cls, counts: JobCounts) -> TrainingStats:
        """Counts in the document's words."""
        return cls(
            total_jobs=counts.total,
            completed=counts.completed,
            running=counts.running,
            failed=counts.failed,
            pending=counts.pending,
            cancelled=counts.cancelled,
        )


class Aggregate(BaseModel):
    """Figures over all jobs. `mean_accuracy` is of public datasets alone: of others nothing raw is told."""

    jobs: TrainingStats
    success_rate: float | None
    duration_seconds: Durations
    by_model: dict[str, int]
    mean_accuracy: float | None
    privacy: list[Spent]

    @classmethod
    def of(cls, figures: JobStatistics) -> Aggregate:
        """Figures of the room."""
        counts = figures.counts()
        return cls(
            jobs=TrainingStats.of(counts),
            success_rate=counts.success_rate,
            duration_seconds=figures.durations(),
            by_model=figures.by_model_type(),
            mean_accuracy=figures.mean_accuracy(),
            privacy=figures.spent(),
        )


class Dashboard(BaseModel):
    """What a front page shows."""

    jobs: TrainingStats
    success_rate: float | None
    recent_jobs: list[JobFacts]
    privacy: list[Spent]
    unread_notifications: int


# ----------------------------------------------------------------------------- jobs
@router.get("/training/jobs")
async def list_jobs(owner: SignedIn, jobs: JobsRoom, limit: Limit = 50, offset: Offset = 0) -> JobList:
    """List training jobs, the newest first."""
    found, total = jobs.list_page(owner, limit=limit, offset=offset)
    shown = [JobFacts.of(job, COORDINATION) for job in found]
    return JobList(data=shown, total=total, limit=limit, offset=offset)


@router.post("/training/jobs", status_code=201)
async def create_job(
    body: StartTraining, owner: SignedIn, jobs: JobsRoom, key: IdempotencyKey = None
) -> Single[JobFacts]:
    """Create a training job."""
    job = jobs.submit(owner, body.as_spec(), idempotency_key=key)
    return Single(id=job.id, data=JobFacts.of(job, COORDINATION))


@router.get("/training/jobs/{job_id}")
async def get_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> Single[JobFacts]:
    """Get a training job."""
    return Single(id=job_id, data=JobFacts.of(jobs.get(owner, job_id), COORDINATION))


@router.get("/training/jobs/{job_id}/metrics")
async def get_job_metrics(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> Single[JobMetrics]:
    """Get what a training job has measured, epoch by epoch."""
    return Single(id=job_id, data=JobMetrics.of(jobs.get(owner, job_id)))


@router.post("/training/jobs/{job_id}/cancel")
async def cancel_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> Done:
    """Cancel a training job. One that runs saves what it has first; one that ended otherwise is 409."""
    job = jobs.stop(owner, job_id)
    if job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
        raise JobEnded(str(job.status))
    is_over = job.status == JobStatus.CANCELLED
    return Done(message="Training job cancelled" if is_over else "Training job is being cancelled")


@router.post("/training/jobs/{job_id}/restart")
async def restart_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> Done:
    """Restart a failed or cancelled job from its last checkpoint. Its ledger goes on."""
    job = jobs.restart(owner, job_id)
    return Done(message=f"Training job restarted: attempt {job.attempt}")


# ----------------------------------------------------------------------------- figures
async def read_training_stats(figures: JobStatisticsRoom) -> TrainingStats:
    """Get training job statistics for the authenticated user."""
    return TrainingStats.of(figures.counts())


router.add_api_route(
    "/training/stats", read_training_stats, methods=["GET"], route_class_override=StatisticsRoute
)


@router.get("/training/metrics/aggregate")
async def read_aggregate(figures: JobStatisticsRoom) -> Aggregate:
    """Get aggregated metrics across jobs."""
    return Aggregate.of(figures)


@router.get("/analytics/dashboard")
async def read_dashboard(
    owner: SignedIn, jobs: JobsRoom, figures: JobStatisticsRoom, inbox: InboxRoom
) -> Dashboard:
    """Get dashboard summary data."""
    counts, (recent, _) = figures.counts(), jobs.list_page(owner, limit=MOST_SHOWN)
    return Dashboard(
        jobs=TrainingStats.of(counts),
        success_rate=counts.success_rate,
        recent_jobs=[JobFacts.of(job, COORDINATION) for job in recent],
        privacy=figures.spent(),
        unread_notifications=inbox.list_page(owner, unread=True, limit=1)[1],
    )
