"""How much there is of what: clients, operations, workers and budgets, counted in the database.

Counts and budgets only. Nothing here is a function of a row of data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.datasets import Dataset
from tg_workbench.execution import Work
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.training import OperationRow, TrainingClient

MOST_BUDGETS = 100


def sees_the_machine(principal: Principal) -> bool:
    """Whether somebody belongs to the workbench's own tenant, and so may see the machine as a whole."""
    return principal.tenant_id == LOCAL_PRINCIPAL.tenant_id


@dataclass(frozen=True, slots=True)
class Budget:
    """What a dataset may cost, and has."""

    dataset_id: str
    tenant_id: str
    spent_epsilon: float
    epsilon_cap: float

    @property
    def used(self) -> float:
        """The part that is spent."""
        return self.spent_epsilon / self.epsilon_cap if self.epsilon_cap > 0 else 1.0


@dataclass(frozen=True, slots=True)
class WorkCounts:
    """Workers: how many are wanted, how many there are, and how many were lost in a row."""

    wanted: int = 0
    running: int = 0
    failing: int = 0


class Statistics:
    """Counts, of one tenant or, where `tenant_id` is None, of all."""

    def __init__(self, session: Session, tenant_id: str | None = None) -> None:
        self.session = session
        self.tenant_id = tenant_id

    def clients_by_status(self) -> dict[str, int]:
        """How many training clients stand where."""
        counted = sa.select(col(TrainingClient.status), sa.func.count()).group_by(col(TrainingClient.status))
        return {str(row[0]): row[1] for row in self._all(self._ours(counted))}

    def steps(self) -> int:
        """The steps that the training clients stand at, together."""
        summed = sa.select(sa.func.coalesce(sa.func.sum(col(TrainingClient.step)), 0))
        return int(self._all(self._ours(summed))[0][0])

    def operations(self) -> dict[tuple[str, str], int]:
        """How many operations there are, by kind and status."""
        group = (col(OperationRow.kind), col(OperationRow.status))
        counted = sa.select(*group, sa.func.count()).group_by(*group)
        if self.tenant_id is not None:
            mine = sa.select(col(TrainingClient.id)).where(col(TrainingClient.tenant_id) == self.tenant_id)
            counted = counted.where(col(OperationRow.client_id).in_(mine))
        return {(row[0], row[1]): row[2] for row in self._all(counted)}

    def work(self) -> WorkCounts:
        """The workers of every tenant."""
        pid, failures = col(Work.pid), col(Work.failures)
        wanted = sa.func.sum(sa.case((col(Work.wanted), 1), else_=0))
        failing = sa.func.sum(sa.case((failures > 0, 1), else_=0))
        row = self._all(sa.select(wanted, sa.func.count(pid), failing))[0]
        return WorkCounts(*(value or 0 for value in row))

    def budgets(self, limit: int = MOST_BUDGETS) -> list[Budget]:
        """The budgets of protected datasets, the most used first."""
        names = (
            col(Dataset.id),
            col(Dataset.tenant_id),
            col(Dataset.spent_epsilon),
            col(Dataset.epsilon_cap),
        )
        query = (
            sa.select(*names)
            .where(col(Dataset.privacy) == "protected", col(Dataset.deleted_at).is_(None))
            .order_by((col(Dataset.spent_epsilon) / col(Dataset.epsilon_cap)).desc(), col(Dataset.id))
            .limit(limit)
        )
        if self.tenant_id is not None:
            query = query.where(col(Dataset.tenant_id) == self.tenant_id)
        return [Budget(*row) for row in self._all(query)]

    def _ours(self, query: Any) -> Any:
        """Of training clients, only the tenant's."""
        mine = col(TrainingClient.tenant_id) == self.tenant_id
        return query if self.tenant_id is None else query.where(mine)

    def _all(self, query: Any) -> list[Any]:
        return list(self.session.connection().execute(query))
