"""Conditions: what a rule looks at. Each gives readings; a rule's threshold says which of them are bad.

A condition reads counts, budgets and the disk; nothing it says is a function of a row of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlmodel import Session, col, select

from tg_workbench.execution import Work
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.observability.statistics import Statistics
from tg_workbench.training import TrainingClient

MOST_READINGS = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """How one subject of one tenant is: the larger the value, the worse."""

    subject: str
    tenant_id: str
    value: float
    message: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a condition may look at."""

    session: Session
    home: Path


Condition = Callable[[Grounds], list[Reading]]


def budget_near_cap(grounds: Grounds) -> list[Reading]:
    """The part of each protected dataset's ε cap that is spent."""
    return [
        Reading(
            budget.dataset_id,
            budget.tenant_id,
            budget.used,
            f"dataset {budget.dataset_id} spent ε = {budget.spent_epsilon:.2f} of {budget.epsilon_cap:.2f}",
        )
        for budget in Statistics(grounds.session).budgets(MOST_READINGS)
    ]


def worker_lost(grounds: Grounds) -> list[Reading]:
    """How many workers each training client has lost in a row, without an operation done in between."""
    query = (
        select(Work.id, Work.failures, Work.last_exit, TrainingClient.tenant_id)
        .join(TrainingClient, col(TrainingClient.id) == col(Work.id))
        .where(Work.failures > 0)
        .order_by(col(Work.failures).desc(), col(Work.id))
        .limit(MOST_READINGS)
    )
    return [
        Reading(
            client, tenant, failures, f"training client {client} lost {failures} worker(s): {how or 'unseen'}"
        )
        for client, failures, how, tenant in grounds.session.exec(query)
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
