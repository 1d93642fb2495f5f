"""What metrics, alerts and the status learn from other rooms: webhooks, fleets and the audit log."""

from __future__ import annotations

import time
from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from sqlmodel import Session, col, select

from tg_workbench.federation.fleets import Fleet
from tg_workbench.identity import LOCAL_PRINCIPAL, Organization
from tg_workbench.observability.conditions import Grounds, Reading, budget_near_cap, worst_of_each
from tg_workbench.security import AuditEntries, AuditLog, verify
from tg_workbench.security.audit.entries import WORKBENCH
from tg_workbench.security.audit.verifying import is_used
from tg_workbench.storage.database import now
from tg_workbench.webhooks import Delivery, DeliveryStatus, Subscription

SCAN_SECONDS = 3600.0
BY_HAND = "disabled by hand"


def webhook_deliveries(session: Session, tenant_id: str | None) -> Iterator[Metric]:
    """Deliveries by status."""
    query = select(Delivery.status, sa.func.count()).group_by(col(Delivery.status))
    if tenant_id is not None:
        ours = col(Subscription.id) == col(Delivery.subscription_id)
        query = query.join(Subscription, ours).where(Subscription.tenant_id == tenant_id)
    counted = dict(session.exec(query).all())
    family = GaugeMetricFamily("tg_webhook_deliveries", "Webhook deliveries, by status.", labels=("status",))
    for status in DeliveryStatus:
        family.add_metric((status.value,), counted.get(status.value, 0))
    yield family


def webhook_disabled(grounds: Grounds) -> list[Reading]:
    """The webhooks that were switched off because their receivers fail."""
    off = (col(Subscription.status) == "disabled", col(Subscription.reason) != BY_HAND)
    tenant, failures = col(Subscription.tenant_id), col(Subscription.failures)
    query = sa.select(col(Subscription.id), tenant, failures).where(*off)
    return [
        Reading(one.id, one.tenant_id, 1.0, f"webhook {one.id} was disabled after {one.failures} failures")
        for one in worst_of_each(grounds, query, tenant, sa.literal(1.0), col(Subscription.id))
    ]


def fleet_budgets(session: Session, tenant_id: str | None) -> Iterator[Metric]:
    """What the viewer's own fleet has cost and may cost: as with datasets, no other tenant's is named."""
    query = select(Fleet).where(Fleet.tenant_id == (tenant_id or LOCAL_PRINCIPAL.tenant_id))
    spent = GaugeMetricFamily(
        "tg_fleet_epsilon_spent", "What a fleet of devices has cost.", labels=("fleet",)
    )
    cap = GaugeMetricFamily("tg_fleet_epsilon_cap", "What a fleet of devices may cost.", labels=("fleet",))
    for fleet in session.exec(query):
        spent.add_metric((fleet.id,), fleet.spent_epsilon)
        if fleet.epsilon_cap is not None:
            cap.add_metric((fleet.id,), fleet.epsilon_cap)
    yield from (spent, cap)


def fleet_near_cap(grounds: Grounds) -> list[Reading]:
    """The part of each fleet's ε cap that is spent; a fleet goes by the name of its organisation."""
    spent, cap, tenant = col(Fleet.spent_epsilon), col(Fleet.epsilon_cap), col(Fleet.tenant_id)
    used = sa.case((cap > 0, spent / cap), else_=1.0)
    named = sa.func.coalesce(col(Organization.name), tenant).label("name")
    query = sa.select(
        col(Fleet.id), tenant, named, spent.label("spent"), cap.label("cap"), used.label("used")
    )
    query = query.outerjoin(Organization, col(Organization.id) == tenant).where(cap.is_not(None))
    return [
        Reading(
            row.id,
            row.tenant_id,
            row.used,
            f"the fleet of {row.name} spent ε = {row.spent:.2f} of {row.cap:.2f}",
        )
        for row in worst_of_each(grounds, query, tenant, used, col(Fleet.id))
    ]


def any_budget_near_cap(grounds: Grounds) -> list[Reading]:
    """The same of all budgets, the fleets' first: whatever protects devices or rows has one rule."""
    return [*fleet_near_cap(grounds), *budget_near_cap(grounds)]


class AuditScan:
    """Verifies the whole audit log: at first, and again an hour later; a condition of alerts."""

    def __init__(self, audit: AuditLog) -> None:
        self.audit = audit
        self.at: float | None = None
        """When it was last verified."""
        self._broken = set[str]()
        self._due = 0.0

    def __call__(self, grounds: Grounds) -> list[Reading]:
        """The audit logs that are not as they were written."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SCAN_SECONDS
            self.at, self._broken = now(), self._verified(grounds)
        what = "the audit log is not as it was written: run 'tg-workbench audit verify'"
        tenants = sorted({*self._broken, *self.audit.broken})
        return [Reading(f"audit:{tenant}", tenant, 1.0, what) for tenant in tenants]

    def _verified(self, grounds: Grounds) -> set[str]:
        """Whose log does not hold. Where nothing was ever written no key is loaded, which takes 12 MB."""
        if AuditEntries(grounds.session).is_empty() and not any(self.audit.files.all()):
            return {WORKBENCH} if is_used(grounds.session) else set()
        verdict = verify(self.audit.database, key=self.audit.key, files=self.audit.files)
        return {found.tenant_id for found in verdict.breaks}
