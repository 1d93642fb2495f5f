"""Alerts fire once, resolve when it is over, and every change is told with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tg_workbench.datasets import Dataset
from tg_workbench.errors import AlertNotFound, AlertRuleNotFound, PermissionDenied
from tg_workbench.events import Events, tenant_subject
from tg_workbench.execution import Work
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.observability import alerts as alerts_module
from tg_workbench.observability import conditions
from tg_workbench.observability.alerts import Alerts
from tg_workbench.observability.conditions import CONDITIONS, Condition, Grounds, Reading, worker_lost
from tg_workbench.observability.tables import Alert
from tg_workbench.observability.watch import Watch
from tg_workbench.storage import Database
from tg_workbench.training import TrainingClient

ALICE = Principal("alice", "acme", frozenset({"monitoring"}))
BOB = Principal("bob", "bobs", frozenset({"monitoring"}))


class Gauge:
    """A condition whose value a test sets."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def __call__(self, grounds: Grounds) -> list[Reading]:
        return [Reading(name, "acme", value, f"{name} is at {value}") for name, value in self.values.items()]


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


@pytest.fixture
def watch(database: Database, tmp_path: Path, gauge: Gauge) -> Watch:
    conditions: dict[str, Condition] = {"budget_near_cap": gauge}
    return Watch(database, tmp_path, tmp_path, conditions)


def seen(database: Database, owner: Principal = ALICE) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(alert.subject, alert.state) for alert in Alerts(session).list_page(owner)[0]]


def told(database: Database) -> list[str]:
    with database.read() as session:
        rows = Events(session).after(tenant_subject("acme"), 0)
        return [f"{row.as_message()['data']['subject']} {row.as_message()['data']['state']}" for row in rows]


def test_an_alert_fires_once_and_resolves_once(database: Database, watch: Watch, gauge: Gauge) -> None:
    gauge.values = {"ds-1": 0.79}
    assert not watch.look()
    gauge.values = {"ds-1": 0.8}
    assert watch.look()
    gauge.values = {"ds-1": 0.95}
    assert not watch.look()
    assert seen(database) == [("ds-1", "firing")]
    gauge.values = {}
    assert watch.look()
    assert not watch.look()
    assert seen(database) == [("ds-1", "resolved")]
    assert told(database) == ["ds-1 firing", "ds-1 resolved"]


def test_one_that_comes_back_is_another_alert(database: Database, watch: Watch, gauge: Gauge) -> None:
    for value in (0.9, 0.1, 0.9):
        gauge.values = {"ds-1": value}
        watch.look()
    assert sorted(seen(database)) == [("ds-1", "firing"), ("ds-1", "resolved")]


def test_a_rule_that_is_switched_off_resolves_what_fires(
    database: Database, watch: Watch, gauge: Gauge
) -> None:
    gauge.values = {"ds-1": 1.0}
    watch.look()
    with database.write() as session:
        Alerts(session).change_rule(LOCAL_PRINCIPAL, "budget_near_cap", enabled=False)
    watch.look()
    assert seen(database) == [("ds-1", "resolved")]


def test_an_alert_keeps_the_threshold_it_passed(database: Database, watch: Watch, gauge: Gauge) -> None:
    gauge.values = {"ds-1": 0.9}
    watch.look()
    with database.write() as session:
        Alerts(session).change_rule(LOCAL_PRINCIPAL, "budget_near_cap", threshold=0.5)
        (alert,), _ = Alerts(session).list_page(ALICE)
        assert (alert.threshold, alert.value, alert.severity) == (0.8, 0.9, "warning")


def test_only_the_workbenchs_own_tenant_changes_rules(database: Database) -> None:
    with database.write() as session:
        with pytest.raises(PermissionDenied):
            Alerts(session).change_rule(ALICE, "budget_near_cap", enabled=False)
        with pytest.raises(AlertRuleNotFound):
            Alerts(session).change_rule(LOCAL_PRINCIPAL, "nothing", enabled=False)


def test_nobody_sees_or_answers_another_tenants_alert(database: Database, watch: Watch, gauge: Gauge) -> None:
    gauge.values = {"ds-1": 1.0}
    watch.look()
    assert seen(database, BOB) == []
    with database.write() as session:
        (alert,), _ = Alerts(session).list_page(ALICE)
        with pytest.raises(AlertNotFound):
            Alerts(session).acknowledge(BOB, alert.id)
        assert Alerts(session).acknowledge(ALICE, alert.id).acknowledged_by == "alice"
    assert told(database) == ["ds-1 firing", "ds-1 acknowledged"]


def test_what_was_resolved_long_ago_is_forgotten(database: Database, watch: Watch, gauge: Gauge) -> None:
    with database.write() as session:
        session.add(
            Alert(
                id="alert-old",
                rule_id="budget_near_cap",
                subject="ds-0",
                tenant_id="acme",
                severity="info",
                value=1,
                threshold=1,
                message="",
                fired_at=0.0,
                resolved_at=1.0,
            )
        )
    gauge.values = {"ds-1": 1.0}
    watch.look()
    assert seen(database) == [("ds-1", "firing")]


def test_a_worker_that_was_lost_is_told_to_its_clients_tenant(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.add(TrainingClient(id="tc-1", owner_id="alice", tenant_id="acme", model_ref="mlp", config={}))
        session.add(Work(id="tc-1", kind="training_client", failures=2, last_exit="killed by signal 9"))
        session.add(Work(id="tc-2", kind="training_client", failures=0))
        session.flush()
        (reading,) = worker_lost(Grounds(session, tmp_path))
    assert (reading.subject, reading.tenant_id, reading.value) == ("tc-1", "acme", 2)
    assert "killed by signal 9" in reading.message


def dataset(name: str, tenant: str, spent: float, cap: float = 1.0) -> Dataset:
    return Dataset(
        id=name, owner_id="x", tenant_id=tenant, name=name, privacy="protected", format="text", size=1,
        blob="b", population=name, delta=1e-5, epsilon_cap=cap, spent_epsilon=spent,
    )  # fmt: skip


@pytest.fixture
def budgets(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch over budgets that gives each tenant room for five readings."""
    monkeypatch.setattr(conditions, "MOST_READINGS", 5)
    monkeypatch.setattr(alerts_module, "MOST_READINGS", 5)
    return Watch(database, tmp_path, tmp_path, CONDITIONS)


def test_one_tenants_budgets_hide_and_resolve_nobody_elses(database: Database, budgets: Watch) -> None:
    with database.write() as session:
        session.add(dataset("ds-bob", "bobs", 0.9))
    budgets.look()
    with database.write() as session:
        session.add_all(dataset(f"ds-{number}", "acme", 1e-9, 1e-9) for number in range(20))
        session.add(dataset("ds-bob-2", "bobs", 0.85))
    budgets.look()
    assert sorted(seen(database, BOB)) == [("ds-bob", "firing"), ("ds-bob-2", "firing")]
    assert len(seen(database)) == 5


def test_what_there_was_no_room_for_is_not_resolved(database: Database, budgets: Watch) -> None:
    with database.write() as session:
        session.add_all(dataset(f"ds-{number}", "acme", 0.85) for number in range(5))
    budgets.look()
    with database.write() as session:
        session.add_all(dataset(f"worse-{number}", "acme", 0.99) for number in range(5))
    assert not budgets.look()
    assert sorted(seen(database)) == [(f"ds-{number}", "firing") for number in range(5)]


def test_budgets_that_are_far_from_their_cap_are_not_read(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.add_all(
            [dataset("ds-1", "acme", 0.5), dataset("ds-2", "acme", 0.9), dataset("ds-3", "x", 0, 0)]
        )
        session.flush()
        readings = conditions.budget_near_cap(Grounds(session, tmp_path, 0.76))
    assert {(reading.subject, reading.value) for reading in readings} == {("ds-2", 0.9), ("ds-3", 1.0)}


def test_what_wavers_about_its_threshold_fires_once(database: Database, watch: Watch, gauge: Gauge) -> None:
    for value in (0.81, 0.79, 0.81, 0.77, 0.8):
        gauge.values = {"ds-1": value}
        watch.look()
    assert told(database) == ["ds-1 firing"]
    gauge.values = {"ds-1": 0.75}
    watch.look()
    assert told(database) == ["ds-1 firing", "ds-1 resolved"]


def test_every_condition_of_ours_can_be_read(database: Database, tmp_path: Path) -> None:
    with database.read() as session:
        rules = {rule.id for rule in Alerts(session).rules()}
        for name, condition in CONDITIONS.items():
            assert name in rules
            assert all(reading.value >= 0 for reading in condition(Grounds(session, tmp_path)))
