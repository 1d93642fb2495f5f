"""Jobs: training runs that go to their end by themselves, as the API sees them.

A job has a training client of its own and asks it for one thing, to fit; so its ledger, its budget, its
checkpoints and what happens when a worker is lost are those of any client. What its worker does is `Fit`.

Pitfalls: a stopped job that had begun is `stopping` until its worker has saved it; restarting spends on, the
ledger of a job is one over all its attempts.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets import Dataset
from tg_workbench.errors import (
    DatasetNotFound,
    DatasetNotReady,
    IdempotencyConflict,
    InvalidField,
    JobNotFound,
    JobNotRestartable,
    TooManyJobs,
)
from tg_workbench.events import Logged, StatusChanged
from tg_workbench.execution import Turn, Work, count_gpus, release_work, request_worker, ring
from tg_workbench.execution.bells import bell_name
from tg_workbench.identity import Principal
from tg_workbench.storage.database import after_commit, now
from tg_workbench.training.closing import tell_job
from tg_workbench.training.job_admission import check_job
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.left_checkpoints import KEPT_DAYS, SWEPT, ended_before
from tg_workbench.training.operations import Operations
from tg_workbench.training.paces import Paces
from tg_workbench.training.specs import (
    ACTIVE_JOBS,
    JOB_KIND,
    OVER_JOBS,
    JobStatus,
    OperationKind,
    Status,
)
from tg_workbench.training.tables import Job, TrainingClient

MOST_ACTIVE = 5
FAILED = "failed"
SOONEST_RETRY_SECONDS = 30
LATEST_RETRY_SECONDS = 3600


class Jobs:
    """The jobs of a workbench."""

    def __init__(self, session: Session, folder: Path, kept_days: int = KEPT_DAYS) -> None:
        """`kept_days`: for so long a job that failed or was cancelled can go on."""
        self.session = session
        self.kept_days = kept_days
        self.folder = folder
        self.operations = Operations(session, folder)

    def submit(self, owner: Principal, spec: JobSpec, *, idempotency_key: str | None = None) -> Job:
        """Accept a job; it waits its turn. The same key gives the same job.

        Raises DatasetNotFound, DatasetNotReady (only when that dataset failed), TooManyJobs,
        IdempotencyConflict, and InvalidRequest, UnknownModel or
        PrivacyRefused for what its worker could only refuse later.
        """
        fingerprint = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode()).hexdigest()
        if known := self._by_key(owner, idempotency_key):
            if known.fingerprint != fingerprint:
                raise IdempotencyConflict
            return known
        dataset = self._dataset(owner, spec.dataset_id)
        warnings = [*check_job(spec, dataset), *_gpu_warnings(spec.gpu_count)]
        self._require_room(owner)
        job_id = f"job-{uuid.uuid4()}"
        client = self._client(owner, job_id, spec)
        job = Job(
            id=job_id,
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            name=spec.name.strip() or f"{spec.model_type} on {dataset.name}"[:200],
            dataset_id=dataset.id,
            model_type=spec.model_type,
            spec=spec.as_json(),
            client_id=client.id,
            priority=spec.priority,
            warnings=warnings,
            estimated_seconds=Paces(self.session).estimate(owner.tenant_id, spec, dataset),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
        )
        self.session.add(job)
        self.session.flush()
        self._enqueue(owner, job, dataset)
        return job

    def get(self, owner: Principal, job_id: str) -> Job:
        """The job. Raises JobNotFound, also when it is somebody else's."""
        job = self.session.get(Job, job_id)
        if job is None or job.owner_id != owner.id:
            raise JobNotFound
        return job

    def list_page(
        self, owner: Principal, *, limit: int = 50, offset: int = 0, status: JobStatus | None = None
    ) -> tuple[list[Job], int]:
        """The owner's jobs, newest first, and how many there are; only those in a `status` that is given."""
        mine = [col(Job.owner_id) == owner.id]
        if status is not None:
            mine.append(col(Job.status) == status)
        total = self.session.exec(select(sa.func.count()).select_from(Job).where(*mine)).one()
        newest_first = (col(Job.created_at).desc(), col(Job.id))
        query = select(Job).where(*mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def counts(self, owner: Principal) -> dict[JobStatus, int]:
        """How many of the owner's jobs stand where; every status is there."""
        query = sa.select(col(Job.status), sa.func.count()).where(col(Job.owner_id) == owner.id)
        rows = self.session.connection().execute(query.group_by(col(Job.status)))
        found = {row[0]: int(row[1]) for row in rows}
        return {status: found.get(status, 0) for status in JobStatus}

    def is_over(self, job_id: str) -> bool:
        """Whether nothing more can happen to it, unless it is restarted."""
        status = self.session.exec(select(Job.status).where(Job.id == job_id)).one_or_none()
        return status is None or status in OVER_JOBS

    def stop(self, owner: Principal, job_id: str) -> Job:
        """End a job: at once while it waits; else its worker saves it first. One that has ended stays so.

        Raises JobNotFound.
        """
        job = self.get(owner, job_id)
        if job.status in OVER_JOBS or job.status == JobStatus.STOPPING:
            return job
        reason = "it was stopped before it began" if job.started_at is None else "it was stopped"
        client = self.session.get_one(TrainingClient, job.client_id)
        client.stop_requested = True  # a worker may be choosing the noise of one that waits
        self.session.add(client)
        after_commit(self.session, lambda: ring(self.folder, bell_name(job.client_id)))
        if self.operations.cancel_waiting(job.client_id, reason=reason):
            release_work(self.session, job.client_id)
            self.session.refresh(job)
            return job
        job.status = JobStatus.STOPPING
        self.session.add(job)
        self.session.flush()
        fact = StatusChanged(job.status, int(job.progress.get("step", 0)))
        tell_job(self.session, self.folder, job.id, fact)
        return job

    def restart(self, owner: Principal, job_id: str) -> Job:
        """Let a failed or cancelled job go on from its last checkpoint, as long as that is kept.

        Raises JobNotFound, JobNotRestartable, TooManyJobs.
        """
        job = self.get(owner, job_id)
        if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise JobNotRestartable(job.status)
        if job.state.get(SWEPT) or (job.ended_at or 0.0) < ended_before(self.kept_days):
            raise JobNotRestartable(job.status, self.kept_days)
        try:
            dataset = self._dataset(owner, job.dataset_id)
        except DatasetNotFound:
            raise JobNotRestartable(job.status, is_dataset_gone=True) from None
        check_job(JobSpec.from_json(job.spec), dataset)
        self._require_room(owner)
        client = self.session.get_one(TrainingClient, job.client_id)
        client.status, client.reason, client.stop_requested = Status.INITIALIZING, None, False
        job.status, job.reason, job.message = JobStatus.QUEUED, None, None
        job.attempt, job.ended_at, job.started_at = job.attempt + 1, None, None
        self.session.add_all((client, job))
        self.session.flush()
        works = sa.update(Work).where(col(Work.id) == client.id)
        self.session.connection().execute(works.values(failures=0, last_exit=None))
        self._enqueue(owner, job, dataset)
        return job

    def _enqueue(self, owner: Principal, job: Job, dataset: Dataset) -> None:
        """Ask for the job's one operation, and for a worker when it is its turn and the rows are there."""
        turn = Turn(owner.id, job.priority, None if dataset.is_ready else dataset.id)
        request_worker(self.session, self.folder, job.client_id, JOB_KIND, turn)
        self.session.flush()
        self.operations.submit(owner, job.client_id, OperationKind.FIT, b"{}")
        told = [Logged("WARNING", warning) for warning in job.warnings] if job.attempt == 1 else []
        tell_job(self.session, self.folder, job.id, StatusChanged(job.status, 0), *told)

    def _client(self, owner: Principal, job_id: str, spec: JobSpec) -> TrainingClient:
        client = TrainingClient(
            id=f"tc-{uuid.uuid4()}",
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            model_ref=spec.model_type,
            dataset_id=spec.dataset_id,
            config=spec.as_client().as_json(),
            job_id=job_id,
        )
        self.session.add(client)
        self.session.flush()
        return client

    def _require_room(self, owner: Principal) -> None:
        """Raise TooManyJobs when as many jobs of one user wait or run as may."""
        query = select(Job).where(Job.owner_id == owner.id, col(Job.status).in_(ACTIVE_JOBS))
        active = list(self.session.exec(query))
        if len(active) >= MOST_ACTIVE:
            soonest = min((_seconds_left(job) for job in active), default=SOONEST_RETRY_SECONDS)
            retry_after = min(LATEST_RETRY_SECONDS, max(SOONEST_RETRY_SECONDS, math.ceil(soonest)))
            raise TooManyJobs(MOST_ACTIVE, retry_after)

    def _dataset(self, owner: Principal, dataset_id: str) -> Dataset:
        dataset = self.session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None or dataset.owner_id != owner.id:
            raise DatasetNotFound
        if dataset.status == FAILED:
            raise DatasetNotReady(dataset.id, dataset.status, dataset.reason)
        return dataset

    def _by_key(self, owner: Principal, key: str | None) -> Job | None:
        if key is None:
            return None
        query = select(Job).where(Job.owner_id == owner.id, Job.idempotency_key == key)
        return self.session.exec(query).first()


def _seconds_left(job: Job) -> float:
    """How much longer a job will take, as far as one can tell."""
    passed = 0.0 if job.started_at is None else now() - job.started_at
    return (job.estimated_seconds or 0.0) - passed


def _gpu_warnings(asked: int) -> list[str]:
    """What is to be said of the GPUs that were asked for. Raises InvalidField when there are fewer."""
    found = count_gpus()
    if asked and not found:
        return ["this machine has no GPU: the job trains on the CPU"]
    if asked > found:
        raise InvalidField("gpu_count", f"Must be at most {found}: this machine has no more GPUs")
    return ["one job trains on one GPU"] if asked > 1 else []
