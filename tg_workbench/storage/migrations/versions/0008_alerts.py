"""Alerts, and the rules they fire by; runs are found without looking at every operation."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RULES = (
    ("audit_broken", 1.0, "critical"),
    ("budget_near_cap", 0.8, "warning"),
    ("disk_nearly_full", 0.9, "critical"),
    ("webhook_disabled", 1.0, "warning"),
    ("worker_lost", 1.0, "warning"),
)


def upgrade() -> None:
    """Make the tables, and the rules as they are until somebody changes them."""
    rules = op.create_table(
        "alert_rules",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rule_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("fired_at", sa.Float(), nullable=False),
        sa.Column("resolved_at", sa.Float(), nullable=True),
        sa.Column("acknowledged_at", sa.Float(), nullable=True),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    firing = sa.text("resolved_at IS NULL")
    op.create_index(
        "ix_alerts_firing",
        "alerts",
        ["rule_id", "subject"],
        unique=True,
        sqlite_where=firing,
        postgresql_where=firing,
    )
    op.create_index("ix_alerts_tenant", "alerts", ["tenant_id", "fired_at"])
    runs = sa.text("kind = 'train'")
    op.create_index(
        "ix_operations_runs", "operations", ["owner_id", "status"], sqlite_where=runs, postgresql_where=runs
    )
    now = time.time()
    op.bulk_insert(
        rules,
        [
            {"id": name, "threshold": threshold, "severity": severity, "enabled": True, "updated_at": now}
            for name, threshold, severity in RULES
        ],
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_operations_runs", table_name="operations")
    op.drop_table("alerts")
    op.drop_table("alert_rules")
