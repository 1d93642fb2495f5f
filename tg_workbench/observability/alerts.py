"""Alerts: they fire once, are acknowledged by somebody, and resolve when what was bad is clearly over.

A tenant sees its own; what concerns the machine belongs to the workbench's own tenant.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import AlertNotFound, AlertRuleNotFound, InvalidRequest, PermissionDenied
from tg_workbench.events import AlertChanged, Events, tenant_subject
from tg_workbench.identity import Principal
from tg_workbench.observability.conditions import MOST_READINGS, Reading
from tg_workbench.observability.tables import Alert, AlertRule
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage.database import now

Severity = Literal["info", "warning", "critical"]
State = Literal["firing", "resolved"]
KEPT_SECONDS = 90 * 86_400.0
RESOLVED_BELOW = 0.95
"""The part of its threshold below which an alert resolves: what wavers about the threshold fires once."""


class Alerts:
    """The alerts of a workbench, and the rules they fire by."""

    def __init__(self, session: Session) -> None:
        self.session = session

    # ------------------------------------------------------------------------------- rules
    def rules(self) -> list[AlertRule]:
        """Every rule, by name."""
        return list(self.session.exec(select(AlertRule).order_by(col(AlertRule.id))))

    def change_rule(
        self,
        owner: Principal,
        rule_id: str,
        *,
        threshold: float | None = None,
        severity: Severity | None = None,
        enabled: bool | None = None,
    ) -> AlertRule:
        """Set what is given. Raises AlertRuleNotFound; PermissionDenied for whoever runs no workbench."""
        if not owner.is_operator:
            raise PermissionDenied("rules are for all tenants: only the workbench's own may change them")
        rule = self.session.get(AlertRule, rule_id)
        if rule is None:
            raise AlertRuleNotFound
        if (threshold, severity, enabled) == (None, None, None):
            raise InvalidRequest("give a threshold, a severity or whether the rule is enabled")
        rule.threshold = rule.threshold if threshold is None else threshold
        rule.severity = rule.severity if severity is None else severity
        rule.enabled = rule.enabled if enabled is None else enabled
        rule.updated_at = now()
        self.session.add(rule)
        self.session.flush()
        return rule

    # ------------------------------------------------------------------------------- alerts
    def get(self, owner: Principal, alert_id: str) -> Alert:
        """The alert. Raises AlertNotFound, also when it is another tenant's."""
        alert = self.session.get(Alert, alert_id)
        if alert is None or alert.tenant_id != owner.tenant_id:
            raise AlertNotFound
        return alert

    def list_page(
        self, owner: Principal, *, state: State | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[list[Alert], int]:
        """The alerts of the owner's tenant, newest first, and how many there are."""
        ours = [col(Alert.tenant_id) == owner.tenant_id]
        if state is not None:
            is_firing = col(Alert.resolved_at).is_(None)
            ours.append(is_firing if state == "firing" else ~is_firing)
        total = self.session.exec(select(sa.func.count()).select_from(Alert).where(*ours)).one()
        query = select(Alert).where(*ours).order_by(col(Alert.fired_at).desc(), col(Alert.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def acknowledge(self, owner: Principal, alert_id: str) -> Alert:
        """Say that somebody has seen it; the first who did is kept. Raises AlertNotFound."""
        alert = self.get(owner, alert_id)
        if alert.acknowledged_at is None:
            alert.acknowledged_at, alert.acknowledged_by = now(), owner.id
            self._tell(alert, "acknowledged")
        return alert

    def firing_by_rule(self, tenant_id: str | None = None) -> dict[str, int]:
        """How many fire, by rule; of all tenants where none is given."""
        query = select(Alert.rule_id, sa.func.count()).where(col(Alert.resolved_at).is_(None))
        if tenant_id is not None:
            query = query.where(Alert.tenant_id == tenant_id)
        return dict(self.session.exec(query.group_by(col(Alert.rule_id))).all())

    # ------------------------------------------------------------------------------- what the watch does
    def differ(self, rule: AlertRule, readings: Sequence[Reading]) -> bool:
        """Whether `settle` would change anything."""
        return any(self._changes(rule, readings))

    def settle(self, rule: AlertRule, readings: Sequence[Reading]) -> None:
        """Fire what is bad and has not fired, resolve what is over, and tell of each."""
        over, new = self._changes(rule, readings)
        for alert in over:
            alert.resolved_at = now()
            self._tell(alert, "resolved")
        for reading in new:
            alert = Alert(
                id=f"alert-{uuid.uuid4()}",
                rule_id=rule.id,
                subject=reading.subject,
                tenant_id=reading.tenant_id,
                severity=rule.severity,
                value=reading.value,
                threshold=rule.threshold,
                message=reading.message,
            )
            self._tell(alert, "firing")

    def _changes(self, rule: AlertRule, readings: Sequence[Reading]) -> tuple[list[Alert], list[Reading]]:
        """The alerts that are over, and the readings that begin one.

        Where a tenant has as many readings as are given there may be more of them, so nothing there is over.
        """
        firing = self._firing(rule)
        if not rule.enabled:
            return firing, []
        seen = Counter(reading.tenant_id for reading in readings)
        bad = {reading.subject for reading in readings if reading.value >= rule.threshold * RESOLVED_BELOW}
        over = [
            alert for alert in firing if alert.subject not in bad and seen[alert.tenant_id] < MOST_READINGS
        ]
        fires = {alert.subject for alert in firing}
        places = Counter(alert.tenant_id for alert in firing)
        new = []
        for reading in readings:
            if reading.value < rule.threshold or reading.subject in fires:
                continue
            places[reading.tenant_id] += 1
            if places[reading.tenant_id] <= MOST_READINGS:
                new.append(reading)
        return over, new

    def forget(self, before: float) -> None:
        """Remove what was resolved before then."""
        self.session.connection().execute(sa.delete(Alert).where(col(Alert.resolved_at) < before))

    def _firing(self, rule: AlertRule) -> list[Alert]:
        query = select(Alert).where(Alert.rule_id == rule.id, col(Alert.resolved_at).is_(None))
        return list(self.session.exec(query))

    def _tell(self, alert: Alert, state: str) -> None:
        self.session.add(alert)
        self.session.flush()
        fact = AlertChanged(
            alert_id=alert.id,
            rule=alert.rule_id,
            state=state,
            severity=alert.severity,
            subject=alert.subject,
            value=alert.value,
            threshold=alert.threshold,
            message=alert.message,
        )
        Events(self.session).record(tenant_subject(alert.tenant_id), fact)
        if state != "acknowledged":
            Outbox(self.session).put(alert.tenant_id, WebhookEvent.SECURITY_ALERT, asdict(fact))
