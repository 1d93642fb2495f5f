"""A job as several documents show it: one view, each document's own words for where a job stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tg_workbench.contracts.accounts import utc
from tg_workbench.storage.database import now
from tg_workbench.training import Job, JobStatus

AITIP: Mapping[str, str] = {"queued": "pending", "stopping": "running", "cancelled": "stopped"}
DEEP_LEARNING: Mapping[str, str] = {"stopping": "running", "cancelled": "stopped"}
COORDINATION: Mapping[str, str] = {"queued": "pending", "stopping": "running"}
OURS: Mapping[str, str] = {}
"""A document's words for the states it names otherwise than the room does."""


class JobFacts(BaseModel):
    """A job: where it stands, how far it is, and what it has cost. Nothing of it is a raw measure of rows."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    name: str
    status: str
    created_at: str
    dataset_id: str
    model: str
    gpu_count: int
    progress: int
    """Percent of its steps."""
    epsilon: float | None
    """What it has spent; null without privacy, and before its first step."""
    reason: str | None
    warnings: list[str]
    model_id: str | None
    started_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, job: Job, words: Mapping[str, str]) -> JobFacts:
        """A job of the room."""
        return cls(**facts_of(job, words))


def facts_of(job: Job, words: Mapping[str, str]) -> dict[str, Any]:
    """What every view of a job begins with."""
    return {
        **job.model_dump(include={"id", "name", "dataset_id", "reason", "warnings", "model_id"}),
        "status": words.get(job.status, str(job.status)),
        "created_at": utc(job.created_at),
        "model": job.model_type,
        "gpu_count": job.spec.get("gpu_count", 0),
        "progress": percent_of(job),
        "epsilon": epsilon_of(job),
        "started_at": time_of(job.started_at),
        "ended_at": time_of(job.ended_at),
    }


def percent_of(job: Job) -> int:
    """How much of its steps a job has taken; one that completed early has nothing left to take."""
    if job.status == JobStatus.COMPLETED:
        return 100
    total = job.progress.get("total_steps") or 0
    return min(100, 100 * int(job.progress.get("step", 0)) // total) if total else 0


def elapsed_of(job: Job) -> int:
    """For how many seconds it has run."""
    if job.started_at is None:
        return 0
    return max(0, int((job.ended_at or now()) - job.started_at))


def epsilon_of(job: Job) -> float | None:
    """What it has spent so far, as far as it was told."""
    final = (job.final_metrics or {}).get("epsilon")
    spent = final if final is not None else job.progress.get("metrics", {}).get("epsilon")
    return None if spent is None else float(spent)


def note_of(job: Job) -> str | None:
    """What is to be known of its measures: those of protected rows are not covered by ε."""
    note = (job.final_metrics or {}).get("metrics_note") or job.progress.get("metrics_note")
    return None if note is None else str(note)


def time_of(seconds: float | None) -> str | None:
    """A time as the documents write it, if there is one."""
    return None if seconds is None else utc(seconds)
