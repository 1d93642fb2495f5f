"""AITIP's routes for training jobs: S1-07 … S1-11."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.sse import format_sse_event
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.aitip.datasets import PageMeta
from tg_workbench.contracts.aitip.errors import AITIP_FAILURES, AitipRoute
from tg_workbench.contracts.aitip.schemas import Success
from tg_workbench.contracts.feeds import Followed, follow
from tg_workbench.contracts.job_forms import JobName, Learning, ModelType
from tg_workbench.contracts.job_views import AITIP, JobFacts
from tg_workbench.contracts.providers import (
    EventsRoom,
    IdempotencyKey,
    JobId,
    JobsRoom,
    LastEventId,
    PageNumber,
    SignedIn,
    ThePremises,
)
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Id, Whole
from tg_workbench.events import EventRow
from tg_workbench.training import Jobs, JobSpec

router = APIRouter(
    prefix="/api/v1/training/jobs", route_class=AitipRoute, tags=["AITIP"], responses=AITIP_FAILURES
)


class Config(Learning):
    """What is trained, and how. `framework` and `model` are AITIP's; there is one framework."""

    framework: Literal["pytorch"] = "pytorch"
    model: ModelType


class CreateJob(ExactForm):
    """A job. Without a GPU it trains on the CPU, and says so in `warnings`."""

    name: JobName
    dataset_id: Id
    config: Config
    gpu_count: Whole = 0

    def as_spec(self) -> JobSpec:
        """The room's value. Raises InvalidField."""
        named = {"name": self.name, "gpu_count": self.gpu_count}
        return self.config.as_spec(self.dataset_id, self.config.model, **named)


class JobPage(Success[list[JobFacts]]):
    """A page of jobs."""

    meta: PageMeta


@router.get("")
async def list_jobs(
    owner: SignedIn,
    jobs: JobsRoom,
    page: PageNumber = 1,
    page_size: Annotated[int, Query(ge=1, le=100, description="Items per page.")] = 20,
) -> JobPage:
    """List training jobs, the newest first."""
    found, total = jobs.list_page(owner, limit=page_size, offset=(page - 1) * page_size)
    meta = PageMeta(page=page, page_size=page_size, total=total)
    return JobPage(data=[JobFacts.of(job, AITIP) for job in found], meta=meta)


@router.post("", status_code=201)
async def create_job(
    body: CreateJob, owner: SignedIn, jobs: JobsRoom, key: IdempotencyKey = None
) -> Success[JobFacts]:
    """Create a training job."""
    job = jobs.submit(owner, body.as_spec(), idempotency_key=key)
    return Success(data=JobFacts.of(job, AITIP))


@router.get("/{job_id}")
async def get_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> Success[JobFacts]:
    """Get a training job."""
    return Success(data=JobFacts.of(jobs.get(owner, job_id), AITIP))


@router.get("/{job_id}/logs", response_class=StreamingResponse)
async def follow_logs(
    job_id: JobId,
    owner: SignedIn,
    jobs: JobsRoom,
    events: EventsRoom,
    premises: ThePremises,
    request: Request,
    last_event_id: LastEventId = None,
) -> Response:
    """Get a job's log lines, and those to come (server-sent events), until it is over.

    `Last-Event-ID` takes up where a reader was; one that has read everything of a job that is over gets 204,
    which tells a browser not to come back.
    """
    jobs.get(owner, job_id)
    after = last_event_id or 0
    if last_event_id and jobs.is_over(job_id) and not any(map(line_of, events.after(job_id, after))):
        return Response(status_code=204)

    def is_over(session: Session) -> bool:
        return Jobs(session, premises.folder).is_over(job_id)

    return follow(request, Followed(job_id, line_of, is_over), after)


@router.post("/{job_id}/stop")
async def stop_job(job_id: JobId, owner: SignedIn, jobs: JobsRoom) -> Success[JobFacts]:
    """Stop a training job. One that runs saves what it has first; one that has ended stays as it is."""
    return Success(data=JobFacts.of(jobs.stop(owner, job_id), AITIP))


def line_of(row: EventRow) -> bytes:
    """A line of the log as the document writes it; other events are none."""
    if row.type != "log":
        return b""
    said = json.loads(row.data)
    line = {"timestamp": utc(row.at), "level": said["level"], "message": said["message"]}
    return format_sse_event(data_str=json.dumps(line, ensure_ascii=False), id=str(row.id))
