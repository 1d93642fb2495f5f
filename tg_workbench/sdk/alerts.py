"""Alerts: what is wrong with the workbench or a budget, since when, and from which value on."""

from __future__ import annotations

from dataclasses import dataclass

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.values import Value

ALERTS, RULES = "/workbench/v1/alerts", "/workbench/v1/alert_rules"


@dataclass(frozen=True, slots=True)
class Alert(Value):
    """An alert, from when it fired."""

    alert_id: str
    rule: str = ""
    state: str = "firing"
    """firing or resolved."""
    severity: str = ""
    subject: str = ""
    value: float = 0.0
    threshold: float = 0.0
    message: str = ""
    fired_at: str = ""
    resolved_at: str | None = None
    acknowledged_at: str | None = None
    acknowledged_by: str | None = None


@dataclass(frozen=True, slots=True)
class AlertRule(Value):
    """A rule: the condition of this name is bad from `threshold` on."""

    rule: str
    threshold: float = 0.0
    severity: str = ""
    enabled: bool = True
    updated_at: str | None = None


class Alerts:
    """The alerts that you may see, and the rules they fire by. All of it needs the scope `monitoring`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, state: str | None = None, limit: int = 50, offset: int = 0) -> list[Alert]:
        """A page of alerts, newest first; `state` is firing or resolved."""
        answer = self._connection.get(ALERTS, {"state": state, "limit": limit, "offset": offset})
        return [Alert.from_wire(item) for item in answer.get("alerts", [])]

    def acknowledge(self, alert: Alert | str) -> Alert:
        """Say that somebody has seen it; it fires on until what was bad is over. Raises NotFound."""
        alert_id = alert.alert_id if isinstance(alert, Alert) else alert
        return Alert.from_wire(self._connection.post(f"{ALERTS}/{alert_id}/acknowledge"))

    def rules(self) -> tuple[AlertRule, ...]:
        """Every rule, by name."""
        return tuple(AlertRule.from_wire(item) for item in self._connection.get(RULES).get("alert_rules", []))

    def change_rule(
        self,
        rule: AlertRule | str,
        *,
        threshold: float | None = None,
        severity: str | None = None,
        enabled: bool | None = None,
    ) -> AlertRule:
        """Change what is named of a rule, at once. Raises NotFound, PermissionDenied."""
        name = rule.rule if isinstance(rule, AlertRule) else rule
        asked = {"threshold": threshold, "severity": severity, "enabled": enabled}
        body = Body.of_json({member: value for member, value in asked.items() if value is not None})
        return AlertRule.from_wire(self._connection.post(f"{RULES}/{name}", body))
