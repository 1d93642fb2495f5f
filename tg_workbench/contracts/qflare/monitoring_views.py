"""What QFLARE answers about itself: status, alerts, log lines. Times are as its document writes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.premises import Premises
from tg_workbench.federation.devices import DeviceKeys, Devices
from tg_workbench.federation.rounds import count_active
from tg_workbench.identity import Principal
from tg_workbench.observability.log_queries import LogLine
from tg_workbench.observability.tables import Alert


class FederatedLearning(BaseModel):
    """Rounds and devices."""

    active_rounds: int
    total_devices: int
    online_devices: int


class Security(BaseModel):
    """When keys were last rotated and the audit log last verified; null: never."""

    quantum_keys_rotation: str | None
    last_security_scan: str | None


class Performance(BaseModel):
    """Milliseconds until an answer begins, of the last thousand; memory and processors in percent."""

    avg_response_time: float
    memory_usage: float
    cpu_usage: float


class SystemStatus(BaseModel):
    """How the system is."""

    federated_learning: FederatedLearning
    security: Security
    performance: Performance

    @classmethod
    def of(cls, premises: Premises, asking: Principal) -> SystemStatus:
        """How it is now, with the devices and rounds that the asker sees."""
        with premises.database.read() as session:
            devices = Devices(session).counts(None if asking.is_operator else asking.tenant_id)
            rotated = DeviceKeys(session).last_rotation(asking)
            rounds = count_active(session, None if asking.is_operator else asking.tenant_id)
        average = premises.metrics.average_seconds
        scan = utc(premises.scan.at) if premises.scan.at is not None else None
        return cls(
            federated_learning=FederatedLearning(
                active_rounds=rounds, total_devices=devices.total, online_devices=devices.online
            ),
            security=Security(
                quantum_keys_rotation=None if rotated is None else utc(rotated), last_security_scan=scan
            ),
            performance=Performance(
                avg_response_time=round(1000 * average, 3) if average is not None else 0.0,
                memory_usage=premises.load.memory_percent,
                cpu_usage=premises.load.cpu_percent,
            ),
        )


class ActiveAlert(BaseModel):
    """An alert that fires."""

    id: str
    type: str
    severity: str
    status: Literal["active", "acknowledged"]
    message: str
    subject: str
    value: float
    threshold: float
    triggered_at: str
    acknowledged_at: str | None

    @classmethod
    def of(cls, alert: Alert) -> ActiveAlert:
        """An alert in QFLARE's words."""
        return cls(
            id=alert.id,
            type=alert.rule_id,
            severity=alert.severity,
            status="active" if alert.acknowledged_at is None else "acknowledged",
            message=alert.message,
            subject=alert.subject,
            value=alert.value,
            threshold=alert.threshold,
            triggered_at=utc(alert.fired_at),
            acknowledged_at=utc(alert.acknowledged_at) if alert.acknowledged_at else None,
        )


class ActiveAlerts(BaseModel):
    """Every alert that fires."""

    alerts: list[ActiveAlert]


class LogEntry(BaseModel):
    """One line of the log. `details` are what was written beside the message."""

    timestamp: str
    level: str
    component: str
    message: str
    request_id: str | None
    details: dict[str, Any]

    @classmethod
    def of(cls, line: LogLine) -> LogEntry:
        """A line as it was written."""
        return cls(
            timestamp=line.timestamp,
            level=line.level,
            component=line.component,
            message=line.message,
            request_id=line.request_id,
            details=line.details,
        )


class Logs(BaseModel):
    """The lines that fit."""

    logs: list[LogEntry]
