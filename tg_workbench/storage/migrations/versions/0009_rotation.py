"""A session remembers that its refresh tokens rotate; those of applications always did."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "user_sessions", sa.Column("rotates", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    rows = sa.table("user_sessions", sa.column("rotates"), sa.column("client_id"))
    op.execute(rows.update().where(rows.c.client_id.is_not(None)).values(rotates=sa.true()))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("user_sessions", "rotates")
