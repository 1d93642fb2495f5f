"""Figures: other rooms add theirs, and each viewer gets a page of its own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from sqlmodel import Session

from tg_workbench.datasets import Dataset
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.observability.figures import exposition
from tg_workbench.observability.metrics import Metrics
from tg_workbench.observability.statistics import MOST_BUDGETS
from tg_workbench.storage import Database

EVE = Principal("eve", "eves", frozenset({"monitoring"}))


def test_another_room_adds_its_figures_for_the_tenant_that_looks(database: Database) -> None:
    asked: list[str | None] = []

    def deliveries(session: Session, tenant_id: str | None) -> Iterator[Metric]:
        asked.append(tenant_id)
        yield GaugeMetricFamily("tg_webhook_deliveries", "Deliveries.", value=3)

    for viewer in (LOCAL_PRINCIPAL, EVE):
        page = exposition(database, Metrics(), viewer, [deliveries]).decode()
        assert page.count("tg_webhook_deliveries 3.0") == 1
    assert asked == [None, "eves"]


def test_as_many_datasets_are_named_as_there_is_room_for(database: Database) -> None:
    with database.write() as session:
        for number in range(MOST_BUDGETS + 50):
            session.add(
                Dataset(
                    id=f"ds-{number}",
                    owner_id="eve",
                    tenant_id="eves",
                    name="secret name",
                    privacy="protected",
                    format="rows",
                    size=1,
                    blob="",
                    population=f"ds-{number}",
                    delta=1e-5,
                    epsilon_cap=10,
                    spent_epsilon=number / 100,
                )
            )
    page = exposition(database, Metrics(), EVE).decode()
    assert page.count("tg_dataset_epsilon_spent{") == MOST_BUDGETS
    assert 'dataset="ds-149"' in page
    assert "secret name" not in page
