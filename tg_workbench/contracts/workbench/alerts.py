"""Our own routes for alerts: all of them, acknowledging one, and the rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from tg_workbench.contracts.providers import (
    AlertId,
    AlertRuleId,
    AlertsRoom,
    Limit,
    Offset,
    SignedIn,
    ThePremises,
)
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.execution import ring
from tg_workbench.observability.alerts import Severity, State
from tg_workbench.observability.tables import Alert, AlertRule
from tg_workbench.observability.watch import ASKED, TOLD
from tg_workbench.storage.database import after_commit

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Workbench"], responses=FAILURES)

AnyState = Annotated[State | None, Query(description="Only those that fire, or only those that resolved.")]


class AlertView(View):
    """An alert, from when it fired."""

    alert_id: str
    rule: str
    state: State
    severity: str
    subject: str
    value: float
    threshold: float
    message: str
    fired_at: str
    resolved_at: str | None
    acknowledged_at: str | None
    acknowledged_by: str | None

    @classmethod
    def of(cls, alert: Alert) -> AlertView:
        """An alert as it stands."""
        return cls(
            alert_id=alert.id,
            rule=alert.rule_id,
            state="firing" if alert.resolved_at is None else "resolved",
            severity=alert.severity,
            subject=alert.subject,
            value=alert.value,
            threshold=alert.threshold,
            message=alert.message,
            fired_at=iso(alert.fired_at),
            resolved_at=iso(alert.resolved_at) if alert.resolved_at else None,
            acknowledged_at=iso(alert.acknowledged_at) if alert.acknowledged_at else None,
            acknowledged_by=alert.acknowledged_by,
        )


class AlertList(View):
    """A page of alerts, the newest first."""

    alerts: list[AlertView]
    total: int
    limit: int
    offset: int


class AlertRuleView(View):
    """A rule: the condition of this name is bad from `threshold` on."""

    rule: str
    threshold: float
    severity: str
    enabled: bool
    updated_at: str

    @classmethod
    def of(cls, rule: AlertRule) -> AlertRuleView:
        """A rule as it stands."""
        return cls(
            rule=rule.id,
            threshold=rule.threshold,
            severity=rule.severity,
            enabled=rule.enabled,
            updated_at=iso(rule.updated_at),
        )


class AlertRuleList(View):
    """Every rule, by name."""

    alert_rules: list[AlertRuleView]


class ChangeAlertRule(ExactForm):
    """What to set of a rule; what is left out stays."""

    threshold: float | None = Field(default=None, gt=0, le=1_000_000)
    severity: Severity | None = None
    enabled: bool | None = None


@router.get("/alerts")
@needs("monitoring")
async def list_alerts(
    owner: SignedIn, alerts: AlertsRoom, state: AnyState = None, limit: Limit = 50, offset: Offset = 0
) -> AlertList:
    """List your alerts, the newest first."""
    page, total = alerts.list_page(owner, state=state, limit=limit, offset=offset)
    return AlertList(alerts=[AlertView.of(alert) for alert in page], total=total, limit=limit, offset=offset)


@router.post("/alerts/{alert_id}/acknowledge")
@needs("monitoring")
async def acknowledge_alert(
    alert_id: AlertId, owner: SignedIn, alerts: AlertsRoom, premises: ThePremises
) -> AlertView:
    """Say that somebody has seen an alert. It fires on until what was bad is over."""
    after_commit(alerts.session, lambda: ring(premises.folder, "api-*", TOLD))
    return AlertView.of(alerts.acknowledge(owner, alert_id))


@router.get("/alert_rules")
@needs("monitoring")
async def list_alert_rules(owner: SignedIn, alerts: AlertsRoom) -> AlertRuleList:
    """List the rules that alerts fire by."""
    return AlertRuleList(alert_rules=[AlertRuleView.of(rule) for rule in alerts.rules()])


@router.post("/alert_rules/{rule_id}")
@needs("admin")
async def change_alert_rule(
    rule_id: AlertRuleId, body: ChangeAlertRule, owner: SignedIn, alerts: AlertsRoom, premises: ThePremises
) -> AlertRuleView:
    """Change a rule. It is looked at again at once."""
    after_commit(alerts.session, lambda: ring(premises.folder, "api-*", ASKED))
    return AlertRuleView.of(alerts.change_rule(owner, rule_id, **body.model_dump()))
