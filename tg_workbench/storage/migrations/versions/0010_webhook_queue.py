"""What is due next of each webhook, and what is being tried, are found without looking at all that waits."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index(
        "ix_webhook_deliveries_next", "webhook_deliveries", ["subscription_id", "status", "due_at", "number"]
    )
    op.create_index("ix_webhook_deliveries_leased", "webhook_deliveries", ["status", "lease_until"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_webhook_deliveries_leased", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_next", table_name="webhook_deliveries")
