"""Figures: what the database says, as Prometheus metrics. Asked for at each scrape, never kept.

A dataset is named only to its own tenant; the operator sees everything else of everybody, added up. Words
that label a figure come from our own lists, and datasets are at most a hundred, the most used first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlmodel import Session

from tg_workbench.identity import Principal
from tg_workbench.observability.alerts import Alerts
from tg_workbench.observability.metrics import Metrics
from tg_workbench.observability.statistics import Statistics, sees_the_machine
from tg_workbench.storage import Database
from tg_workbench.training import OperationKind, Status

OPERATION_STATES = ("pending", "running", "completed", "failed", "cancelled")
SUFFIXES = ("", "-wal")
More = Callable[[Session, str | None], Iterable[Metric]]
"""What another room counts: given a session and a tenant, or None for all of them."""


def exposition(database: Database, metrics: Metrics, viewer: Principal, more: Iterable[More] = ()) -> bytes:
    """The page a scraper reads: the process and the machine for the operator, their own for a tenant."""
    with database.read() as session:
        figures = CollectorRegistry()
        figures.register(Figures(session, viewer, more))
        page = generate_latest(figures)
    if not sees_the_machine(viewer):
        return page
    machine = CollectorRegistry()
    machine.register(Machine(database))
    return generate_latest(metrics.registry) + generate_latest(machine) + page


class Figures:
    """A collector of what one viewer may see."""

    def __init__(self, session: Session, viewer: Principal, more: Iterable[More] = ()) -> None:
        self.session = session
        self.viewer = viewer
        self.tenant_id = None if sees_the_machine(viewer) else viewer.tenant_id
        self.more = more

    def describe(self) -> list[Metric]:
        """Nothing beforehand: describing would ask the database once more."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every figure."""
        statistics = Statistics(self.session, self.tenant_id)
        by_status = statistics.clients_by_status()
        clients = {(status.value,): by_status.get(status, 0) for status in Status}
        yield _gauge("tg_training_clients", "Training clients, by status.", ("status",), clients)
        yield _gauge(
            "tg_training_steps", "The steps that training clients stand at.", (), {(): statistics.steps()}
        )
        counted = statistics.operations()
        operations = {
            (kind.value, state): counted.get((kind.value, state), 0)
            for kind in OperationKind
            for state in OPERATION_STATES
        }
        yield _gauge("tg_operations", "Operations, by kind and status.", ("kind", "status"), operations)
        runs = {(state,): operations[OperationKind.TRAIN.value, state] for state in OPERATION_STATES}
        yield _gauge("tg_training_runs", "Runs on the server, by status.", ("status",), runs)
        waiting = sum(count for (_, state), count in operations.items() if state == "pending")
        yield _gauge("tg_queue_depth", "Operations that wait.", (), {(): waiting})
        yield from self._budgets()
        firing = Alerts(self.session).firing_by_rule(self.tenant_id)
        rules = {(rule.id,): firing.get(rule.id, 0) for rule in Alerts(self.session).rules()}
        yield _gauge("tg_alerts_firing", "Alerts that fire, by rule.", ("rule",), rules)
        if self.tenant_id is None:
            work = statistics.work()
            workers = {("wanted",): work.wanted, ("running",): work.running, ("failing",): work.failing}
            yield _gauge("tg_workers", "Worker processes, by state.", ("state",), workers)
        for counting in self.more:
            yield from counting(self.session, self.tenant_id)

    def _budgets(self) -> Iterator[Metric]:
        budgets = Statistics(self.session, self.viewer.tenant_id).budgets()
        spent = {(budget.dataset_id,): budget.spent_epsilon for budget in budgets}
        caps = {(budget.dataset_id,): budget.epsilon_cap for budget in budgets}
        yield _gauge("tg_dataset_epsilon_spent", "What a dataset has cost.", ("dataset",), spent)
        yield _gauge("tg_dataset_epsilon_cap", "What a dataset may cost.", ("dataset",), caps)


class Machine:
    """A collector of how the database is."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def describe(self) -> list[Metric]:
        """Nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Its size and how long it takes to answer."""
        began = time.perf_counter()
        self.database.ping()
        took = time.perf_counter() - began
        yield _gauge("tg_database_answer_seconds", "How long the database took to answer.", (), {(): took})
        yield _gauge("tg_database_size_bytes", "The database's files.", (), {(): _size(self.database)})


def _size(database: Database) -> int:
    files = (database.path.with_name(database.path.name + suffix) for suffix in SUFFIXES)
    return sum(file.stat().st_size for file in files if file.exists())


def _gauge(name: str, says: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family
