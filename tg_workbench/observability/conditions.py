"""Conditions: what a rule looks at. Each gives readings; a rule's threshold says which of them are bad.

Readings that are too small to matter are left out in the database, and each tenant has room for 500: however
many one tenant has, another's are seen.
A condition reads counts, budgets and the disk; nothing it says is a function of a row of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.datasets import Dataset
from tg_workbench.execution import Work
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.training import TrainingClient

MOST_READINGS = 500
"""Of each tenant, the worst first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How one subject of one tenant is: the larger the value, the worse."""

    subject: str
    tenant_id: str
    value: float
    message: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a condition may look at, and the value below which nobody cares."""

    session: Session
    home: Path
    least: float = 0.0


Condition = Callable[[Grounds], list[Reading]]


def worst_of_each(grounds: Grounds, query: Any, tenant: Any, worst: Any, name: Any) -> list[Any]:
    """The first rows of each tenant when the worst come first; `name` decides where two are as bad."""
    place = sa.func.row_number().over(partition_by=tenant, order_by=(worst.desc(), name)).label("place")
    ranked = query.where(worst >= grounds.least).add_columns(place).subquery()
    few = sa.select(ranked).where(ranked.c.place <= MOST_READINGS).order_by(ranked.c.place)
    return list(grounds.session.connection().execute(few))


def budget_near_cap(grounds: Grounds) -> list[Reading]:
    """The part of each protected dataset's ε cap that is spent."""
    spent, cap, tenant = col(Dataset.spent_epsilon), col(Dataset.epsilon_cap), col(Dataset.tenant_id)
    used = sa.case((cap > 0, spent / cap), else_=1.0)
    query = sa.select(col(Dataset.id), tenant, spent.label("spent"), cap.label("cap"), used.label("used"))
    query = query.where(col(Dataset.privacy) == "protected", col(Dataset.deleted_at).is_(None))
    return [
        Reading(
            row.id, row.tenant_id, row.used, f"dataset {row.id} spent ε = {row.spent:.2f} of {row.cap:.2f}"
        )
        for row in worst_of_each(grounds, query, tenant, used, col(Dataset.id))
    ]


def worker_lost(grounds: Grounds) -> list[Reading]:
    """How many workers each training client has lost in a row, without an operation done in between."""
    failures, tenant = col(Work.failures), col(TrainingClient.tenant_id)
    query = (
        sa.select(col(Work.id), failures, col(Work.last_exit), tenant)
        .join(TrainingClient, col(TrainingClient.id) == col(Work.id))
        .where(failures > 0)
    )
    return [
        Reading(
            row.id,
            row.tenant_id,
            row.failures,
            f"training client {row.id} lost {row.failures} worker(s): {row.last_exit or 'unseen'}",
        )
        for row in worst_of_each(grounds, query, tenant, failures, col(Work.id))
    ]


def disk_nearly_full(grounds: Grounds) -> list[Reading]:
    """The part of the disk under TG_HOME that is taken."""
    usage = psutil.disk_usage(str(grounds.home))
    message = f"the disk of TG_HOME has {usage.free / 1e9:.1f} GB left: free some, or move TG_HOME"
    return [Reading("disk", LOCAL_PRINCIPAL.tenant_id, usage.percent / 100, message)]


CONDITIONS: Mapping[str, Condition] = {
    "budget_near_cap": budget_near_cap,
    "worker_lost": worker_lost,
    "disk_nearly_full": disk_nearly_full,
}
"""Those of this room; other rooms' come from `app.py`. The rules' ids are these names."""
