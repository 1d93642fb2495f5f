"""What happens to webhooks and to the audit log is seen by metrics and alerts, and alerts reach webhooks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from tg_workbench.contracts.watched import (
    AuditScan,
    any_budget_near_cap,
    fleet_budgets,
    webhook_deliveries,
    webhook_disabled,
)
from tg_workbench.datasets import Dataset
from tg_workbench.federation.fleets import Fleet
from tg_workbench.identity import Organization
from tg_workbench.observability import conditions
from tg_workbench.observability.conditions import Grounds, Reading
from tg_workbench.observability.watch import Watch
from tg_workbench.outbox import Notice
from tg_workbench.security import AuditEntry, AuditLog, Deed
from tg_workbench.storage import Database
from tg_workbench.webhooks import Delivery, Subscription


def subscription(name: str, tenant: str, status: str, reason: str | None = None) -> Subscription:
    return Subscription(
        id=name, tenant_id=tenant, owner_id="x", url="https://x", events=[], secret=b"", key_id="",
        status=status, reason=reason, failures=10,
    )  # fmt: skip


def test_webhooks_are_counted_and_those_that_fail_are_told(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.add(subscription("wh-1", "acme", "disabled", "10 tries in a row failed"))
        session.add(subscription("wh-2", "acme", "disabled", "disabled by hand"))
        session.add(subscription("wh-3", "eves", "active"))
        session.flush()
        for number, of in enumerate(("wh-1", "wh-1", "wh-3")):
            session.add(
                Delivery(
                    id=f"d{number}",
                    subscription_id=of,
                    message_id="m",
                    event="e",
                    content="",
                    most_attempts=1,
                )
            )
        session.flush()
        (reading,) = webhook_disabled(Grounds(session, tmp_path))
        assert (reading.subject, reading.tenant_id) == ("wh-1", "acme")
        for tenant, pending in ((None, 3), ("acme", 2), ("eves", 1), ("nobody", 0)):
            (family,) = webhook_deliveries(session, tenant)
            assert {sample.labels["status"]: sample.value for sample in family.samples}["pending"] == pending


def fleet(tenant: str, spent: float, cap: float | None = 10.0) -> Fleet:
    return Fleet(
        id=f"fleet-{tenant}", tenant_id=tenant, delta=1e-5, epsilon_cap=cap, spent_epsilon=spent
    )  # fmt: skip


def test_a_fleet_near_its_cap_is_told_by_its_organisations_name(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.add(Organization(id="org_1", name="North Clinic"))
        session.add_all(
            [fleet("org_1", 9.0), fleet("org_2", 1.0), fleet("org_3", 99.0, None), fleet("local", 9.5)]
        )
        session.add(
            Dataset(
                id="ds-1", owner_id="x", tenant_id="org_1", name="x", privacy="protected", format="text",
                size=1, blob="b", population="ds-1", delta=1e-5, epsilon_cap=1.0, spent_epsilon=0.9,
            )
        )  # fmt: skip
        session.flush()
        readings = any_budget_near_cap(Grounds(session, tmp_path, 0.76))
    told = {reading.message: (reading.subject, reading.tenant_id, reading.value) for reading in readings}
    assert told == {
        "the fleet of North Clinic spent ε = 9.00 of 10.00": ("fleet-org_1", "org_1", 0.9),
        "the fleet of Local spent ε = 9.50 of 10.00": ("fleet-local", "local", 0.95),
        "dataset ds-1 spent ε = 0.90 of 1.00": ("ds-1", "org_1", 0.9),
    }


def test_a_fleet_is_measured_for_its_own_tenant_alone(database: Database) -> None:
    with database.write() as session:
        session.add_all([fleet("acme", 1.5), fleet("eves", 9.0, None), fleet("local", 2.0)])
        session.flush()
        for tenant, spent, caps in (("acme", 1.5, [10.0]), ("eves", 9.0, []), (None, 2.0, [10.0])):
            cost, cap = fleet_budgets(session, tenant)
            assert [sample.value for sample in cost.samples] == [spent]
            assert [sample.value for sample in cap.samples] == caps
        assert all(not family.samples for family in fleet_budgets(session, "nobody"))


def test_an_edited_audit_log_raises_an_alert(database: Database, tmp_path: Path) -> None:
    audit = AuditLog(database, tmp_path)
    deed = Deed(tenant_id="acme", action="x", outcome="done", actor_kind="command", actor_id="x")
    audit.note(deed)
    audit.settle()
    with database.write() as session:
        assert AuditScan(audit)(Grounds(session, tmp_path)) == []
        session.connection().execute(sa.text("DROP TRIGGER audit_entries_refuse_update"))
        session.connection().execute(sa.update(AuditEntry).values(action="y"))
    with database.read() as session:
        (reading,) = AuditScan(audit)(Grounds(session, tmp_path))
    assert reading.tenant_id == "acme"


def test_an_alert_that_fires_is_told_to_webhooks_once(database: Database, tmp_path: Path) -> None:
    def nearly_spent(grounds: Grounds) -> list[Reading]:
        return [Reading("ds-1", "acme", 0.9, "nearly spent")]

    watch = Watch(database, tmp_path, tmp_path, {"budget_near_cap": nearly_spent})
    for _ in range(2):
        watch.look()
    with database.read() as session:
        (notice,) = session.exec(select(Notice).order_by(col(Notice.id)))
    assert (notice.tenant_id, notice.event) == ("acme", "security.alert")
    assert json.loads(notice.data)["rule"] == "budget_near_cap"


def test_an_alert_that_resolves_is_told_to_webhooks_too(database: Database, tmp_path: Path) -> None:
    values = [0.9, 0.1]

    def spent(grounds: Grounds) -> list[Reading]:
        return [Reading("ds-1", "acme", values.pop(0), "so much is spent")]

    watch = Watch(database, tmp_path, tmp_path, {"budget_near_cap": spent})
    for _ in range(2):
        watch.look()
    with database.read() as session:
        notices = session.exec(select(Notice).order_by(col(Notice.id)))
        told = [(notice.event, json.loads(notice.data)["state"]) for notice in notices]
    assert told == [("security.alert", "firing"), ("security.alert", "resolved")]


def test_webhooks_of_one_tenant_leave_room_for_anothers(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "MOST_READINGS", 3)
    with database.write() as session:
        session.add_all(subscription(f"wh-{n}", "acme", "disabled", "it failed") for n in range(9))
        session.add(subscription("wh-z", "bobs", "disabled", "it failed"))
        session.flush()
        readings = webhook_disabled(Grounds(session, tmp_path))
    assert [reading.subject for reading in readings if reading.tenant_id == "bobs"] == ["wh-z"]
    assert len(readings) == 4
