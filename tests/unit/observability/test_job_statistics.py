"""Figures about jobs: they add up, are one's own, and tell nothing raw of protected rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tg_workbench.datasets import Dataset
from tg_workbench.identity import Principal
from tg_workbench.observability.job_statistics import JobCounts, JobStatistics
from tg_workbench.storage import Database
from tg_workbench.training import Job, Jobs, JobStatus

ALICE = Principal("alice", "acme", frozenset({"read"}))
WORDS = {"queued": "pending", "stopping": "running"}


def job(number: int, status: str, owner: str = "alice", **more: Any) -> Job:
    values: dict[str, Any] = {"dataset_id": "ds-1", "model_type": "mlp", **more}
    return Job(
        id=f"job-{number}", owner_id=owner, tenant_id="acme", name="x", spec={}, client_id="tc-1",
        status=status, **values,
    )  # fmt: skip


def dataset(name: str, privacy: str, spent: float = 0.0) -> Dataset:
    return Dataset(
        id=name, owner_id="alice", tenant_id="acme", name=name, privacy=privacy, format="rows", size=1,
        blob="", population=name, delta=1e-5, epsilon_cap=10.0, spent_epsilon=spent,
    )  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(list(JobStatus)), st.sampled_from(["alice", "bob"]))))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_jobs_are_counted_and_add_up_to_what_is_listed(
    database: Database, jobs: list[tuple[str, str]]
) -> None:
    with database.write() as session:
        session.connection().execute(sa.delete(Job))
        session.add_all(job(number, status, owner) for number, (status, owner) in enumerate(jobs))
        session.flush()
        counts = JobStatistics(session, ALICE).counts()
        _, listed = Jobs(session, Path()).list_page(ALICE, limit=1)
    hers = Counter(WORDS.get(status, str(status)) for status, owner in jobs if owner == "alice")
    assert counts == JobCounts(**hers)
    assert counts.total == listed == sum(hers.values())


def test_a_success_is_a_job_that_completed_of_those_that_ended_by_themselves() -> None:
    assert JobCounts(completed=3, failed=1, cancelled=7, running=2).success_rate == 0.75
    assert JobCounts(cancelled=1).success_rate is None


def test_durations_are_of_completed_jobs(database: Database) -> None:
    with database.write() as session:
        assert JobStatistics(session, ALICE).durations().mean is None
        session.add(job(1, "completed", started_at=10.0, ended_at=14.0))
        session.add(job(2, "completed", started_at=10.0, ended_at=12.0))
        session.add(job(3, "failed", started_at=10.0, ended_at=99.0))
        session.add(job(4, "completed", "bob", started_at=0.0, ended_at=99.0))
        session.flush()
        found = JobStatistics(session, ALICE).durations()
    assert (found.jobs, found.total, found.mean, found.shortest, found.longest) == (2, 6.0, 3.0, 2.0, 4.0)


def test_an_accuracy_is_told_of_public_datasets_alone(database: Database) -> None:
    with database.write() as session:
        session.add(dataset("ds-open", "public"))
        session.add(dataset("ds-kept", "protected"))
        session.add(job(1, "completed", dataset_id="ds-kept", final_metrics={"val_accuracy": 0.1}))
        session.flush()
        assert JobStatistics(session, ALICE).mean_accuracy() is None
        session.add(job(2, "completed", dataset_id="ds-open", final_metrics={"val_accuracy": 0.75}))
        session.add(job(3, "completed", dataset_id="ds-open", final_metrics={"val_accuracy": None}))
        session.flush()
        assert JobStatistics(session, ALICE).mean_accuracy() == 0.75


def test_what_protected_datasets_have_cost_comes_dearest_first(database: Database) -> None:
    with database.write() as session:
        session.add_all([dataset("ds-a", "protected", 1.0), dataset("ds-b", "protected", 2.0)])
        session.add(dataset("ds-c", "public"))
        session.add_all([job(1, "completed", dataset_id="ds-a"), job(2, "failed", dataset_id="ds-a")])
        session.flush()
        found = JobStatistics(session, ALICE).spent()
    assert [(one.dataset_id, one.spent_epsilon, one.jobs) for one in found] == [
        ("ds-b", 2.0, 0),
        ("ds-a", 1.0, 2),
    ]
