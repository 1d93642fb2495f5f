"""How the jobs of one principal have gone: counts, durations, and what they have cost.

Counts, times and ε only. What a job has measured is a function of rows: it is told of public datasets alone.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets import Dataset
from tg_workbench.identity import Principal
from tg_workbench.training import Job, JobStatus

MOST_DATASETS = 100
MOST_MODEL_TYPES = 50


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Jobs by how they stand. One that is stopping still runs."""

    completed: int = 0
    running: int = 0
    failed: int = 0
    pending: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))

    @property
    def success_rate(self) -> float | None:
        """Of those that came to an end of their own, the part that completed; None while there is none."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None


@dataclass(frozen=True, slots=True)
class Durations:
    """How many seconds completed jobs have run."""

    jobs: int
    total: float
    mean: float | None
    shortest: float | None
    longest: float | None


@dataclass(frozen=True, slots=True)
class Spent:
    """What jobs, and everything else, have cost a protected dataset."""

    dataset_id: str
    spent_epsilon: float
    epsilon_cap: float
    delta: float
    jobs: int


class JobStatistics:
    """Figures about the jobs of one principal."""

    def __init__(self, session: Session, owner: Principal) -> None:
        self.session = session
        self.mine = col(Job.owner_id) == owner.id
        self.owner = owner

    def counts(self) -> JobCounts:
        """How many stand where."""
        query = select(Job.status, sa.func.count()).where(self.mine).group_by(col(Job.status))
        found = dict(self.session.exec(query).all())
        return JobCounts(
            completed=found.get(JobStatus.COMPLETED, 0),
            running=found.get(JobStatus.RUNNING, 0) + found.get(JobStatus.STOPPING, 0),
            failed=found.get(JobStatus.FAILED, 0),
            pending=found.get(JobStatus.QUEUED, 0),
            cancelled=found.get(JobStatus.CANCELLED, 0),
        )

    def durations(self) -> Durations:
        """How long the completed ones took."""
        taken = col(Job.ended_at) - col(Job.started_at)
        figures = (sa.func.count(taken), sa.func.sum(taken), sa.func.avg(taken), sa.func.min(taken))
        query = sa.select(*figures, sa.func.max(taken)).where(
            self.mine, col(Job.status) == JobStatus.COMPLETED
        )
        jobs, total, *others = self.session.connection().execute(query).one()
        return Durations(jobs, total or 0.0, *others)

    def by_model_type(self) -> dict[str, int]:
        """How many jobs there are of each type of model, the most first."""
        number = sa.func.count().label("number")
        query = sa.select(col(Job.model_type), number).where(self.mine).group_by(col(Job.model_type))
        query = query.order_by(number.desc(), col(Job.model_type)).limit(MOST_MODEL_TYPES)
        return {row[0]: row[1] for row in self.session.connection().execute(query)}

    def mean_accuracy(self) -> float | None:
        """The mean accuracy on held-out rows of completed jobs on public datasets; None: there is none."""
        accuracy = col(Job.final_metrics)["val_accuracy"].as_float()
        query = (
            sa.select(sa.func.avg(accuracy))
            .join(Dataset, col(Dataset.id) == col(Job.dataset_id))
            .where(self.mine, col(Job.status) == JobStatus.COMPLETED, col(Dataset.privacy) == "public")
        )
        mean = self.session.connection().execute(query).scalar()
        return None if mean is None else float(mean)

    def spent(self) -> list[Spent]:
        """What the owner's protected datasets have cost so far, the dearest first."""
        jobs = sa.select(sa.func.count()).where(self.mine, col(Job.dataset_id) == col(Dataset.id))
        names = (col(Dataset.id), col(Dataset.spent_epsilon), col(Dataset.epsilon_cap), col(Dataset.delta))
        query = (
            sa.select(*names, jobs.correlate(Dataset).scalar_subquery())
            .where(col(Dataset.owner_id) == self.owner.id, col(Dataset.privacy) == "protected")
            .where(col(Dataset.deleted_at).is_(None))
            .order_by(col(Dataset.spent_epsilon).desc(), col(Dataset.id))
            .limit(MOST_DATASETS)
        )
        return [Spent(*row) for row in self.session.connection().execute(query)]
