"""What observability stores: the rules of alerts, and the alerts that fired."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class AlertRule(SQLModel, table=True):
    """When to raise an alarm: the condition that has this name, and from which value on."""

    __tablename__ = "alert_rules"

    id: str = Field(primary_key=True)
    threshold: float
    severity: str
    enabled: bool = True
    updated_at: float = Field(default_factory=now)


class Alert(SQLModel, table=True):
    """One alarm, from when it fired. A rule has one firing alarm per subject at most."""

    __tablename__ = "alerts"
    __table_args__ = (
        sa.Index(
            "ix_alerts_firing",
            "rule_id",
            "subject",
            unique=True,
            sqlite_where=sa.text("resolved_at IS NULL"),
            postgresql_where=sa.text("resolved_at IS NULL"),
        ),
        sa.Index("ix_alerts_tenant", "tenant_id", "fired_at"),
    )

    id: str = Field(primary_key=True)
    rule_id: str
    subject: str
    tenant_id: str
    severity: str
    value: float
    threshold: float
    message: str
    fired_at: float = Field(default_factory=now)
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None

    @property
    def state(self) -> str:
        """Whether it is `firing` or `resolved`."""
        return "firing" if self.resolved_at is None else "resolved"
