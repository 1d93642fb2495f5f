"""Our own routes for jobs: everything there is to know of one, and its events live."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tg_workbench.contracts.feeds import END, Followed, as_event, follow
from tg_workbench.contracts.job_desk import TheJobDesk
from tg_workbench.contracts.job_forms import JobName, Learning, ModelType
from tg_workbench.contracts.job_views import OURS, JobFacts, elapsed_of, facts_of, note_of
from tg_workbench.contracts.providers import (
    After,
    EventsRoom,
    IdempotencyKey,
    JobId,
    JobsRoom,
    LastEventId,
    Limit,
    Offset,
    SignedIn,
    ThePremises,
    Wait,
)
from tg_workbench.contracts.route import FAILURES
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Id, Whole
from tg_workbench.contracts.tg_tinker.views import View, message_of
from tg_workbench.contracts.workbench.schemas import EventList
from tg_workbench.training import Job, Jobs, JobSpec, JobStatus

router = APIRouter(prefix="/workbench/v1/jobs", route_class=WorkbenchRoute, tags=["Jobs"], responses=FAILURES)


class SubmitJob(ExactForm):
    """A job: what learns from which dataset, and how."""

    dataset_id: Id
    model_type: ModelType
    learning: Learning = Learning()
    name: JobName = ""
    gpu_count: Whole = 0
    priority: Whole = 0

    def as_spec(self) -> JobSpec:
        """The room's value. Raises InvalidField."""
        more = {"name": self.name, "gpu_count": self.gpu_count, "priority": self.priority}
        return self.learning.as_spec(self.dataset_id, self.model_type, **more)


class JobDetail(JobFacts):
    """Everything there is to know of a job. `metrics_note` says what of it ε does not cover."""

    training_client_id: str
    spec: dict[str, Any]
    message: str | None
    attempt: int
    priority: int
    position: dict[str, Any]
    """`epoch`, `total_epochs`, `step`, `total_steps`, and the newest `metrics`."""
    history: dict[str, list[float | None]]
    final_metrics: dict[str, Any] | None
    metrics_note: str | None
    estimated_seconds: float | None
    elapsed_seconds: int

    @classmethod
    def whole(cls, job: Job) -> JobDetail:
        """A job of the room, in its own words."""
        told = job.model_dump(
            include={
                "spec",
                "message",
                "attempt",
                "priority",
                "history",
                "final_metrics",
                "estimated_seconds",
            }
        )
        return cls(
            **facts_of(job, OURS),
            **told,
            training_client_id=job.client_id,
            position={name: value for name, value in job.progress.items() if name != "metrics_note"},
            metrics_note=note_of(job),
            elapsed_seconds=elapsed_of(job),
        )


class JobPage(View):
    """A page of jobs, the newest first."""

    jobs: list[JobFacts]
    total: int
    limit: int
    offset: int


@router.post("", status_code=201)
async def submit_job(
    body: SubmitJob, owner: SignedIn, jobs: JobsRoom, key: IdempotencyKey = None
) -> JobDetail:
    """Submit a job; it waits its turn, and goes to its end by itself."""
    return JobDetail.whole(jobs.submit(owner, body.as_spec(), idempotency_key=key))


@router.get("")
async def list_jobs(
    owner: SignedIn,
    jobs: JobsRoom,
    status: Annotated[JobStatus | None, Query(description="Only those that stand there.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> JobPage:
    """List your jobs, the newest first."""
    found, total = jobs.list_page(owner, limit=limit, offset=offset, status=status)
    shown = [JobFacts.of(job, OURS) for job in found]
    return JobPage(jobs=shown, total=total, limit=limit, offset=offset)


@router.get("/{job_id}")
async def get_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> JobDetail:
    """A job: where it stands, what it has measured and what it has spent."""
    return JobDetail.whole(jobs.get(owner, job_id))


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def follow_job(
    job_id: JobId,
    owner: SignedIn,
    jobs: JobsRoom,
    premises: ThePremises,
    request: Request,
    after: After = 0,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Follow a job live: its states and the lines of its log. An event `end` comes last."""
    jobs.get(owner, job_id)

    def is_over(session: Session) -> bool:
        return Jobs(session, premises.folder).is_over(job_id)

    return follow(request, Followed(job_id, as_event, is_over, END), last_event_id or after)


@router.get("/{job_id}/history")
async def list_job_history(
    job_id: JobId, owner: SignedIn, jobs: JobsRoom, events: EventsRoom, after: After = 0, limit: Limit = 500
) -> EventList:
    """The same events, a page at a time."""
    jobs.get(owner, job_id)
    return EventList(events=[message_of(row) for row in events.after(job_id, after, limit)])


@router.post("/{job_id}/stop")
async def stop_job(job_id: JobId, desk: TheJobDesk, wait: Wait = 0.0) -> JobDetail:
    """Stop a job: it saves what it has first. Answers at its end, or after `wait` seconds."""
    return JobDetail.whole(await desk.stop(job_id, wait))


@router.post("/{job_id}/restart")
async def restart_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> JobDetail:
    """Let a failed or cancelled job go on from its last checkpoint; its ledger goes on too."""
    return JobDetail.whole(jobs.restart(owner, job_id))
