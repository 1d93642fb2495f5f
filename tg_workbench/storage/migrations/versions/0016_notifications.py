"""People are told of what concerns them: what they want to hear of, what they were told, and mail to send."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the columns that say whose something is."""
    with op.batch_alter_table("outbox") as table:
        table.add_column(sa.Column("owner_id", sa.String(), nullable=True))
    with op.batch_alter_table("webhook_subscriptions") as table:
        table.add_column(sa.Column("personal", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "notification_preferences",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "kind"),
    )
    op.create_table(
        "notifications",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("read_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notifications_of", "notifications", ["owner_id", "number"])
    op.create_table(
        "mails",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_mails_owner_id", "mails", ["owner_id"])
    op.create_index("ix_mails_due_at", "mails", ["due_at"])


def downgrade() -> None:
    """Remove them. What nobody has read, and what was not sent yet, is forgotten."""
    op.drop_table("mails")
    op.drop_table("notifications")
    op.drop_table("notification_preferences")
    with op.batch_alter_table("webhook_subscriptions") as table:
        table.drop_column("personal")
    with op.batch_alter_table("outbox") as table:
        table.drop_column("owner_id")
