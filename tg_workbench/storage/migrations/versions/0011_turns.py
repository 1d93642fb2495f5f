"""Work gets its turn: whose share it takes, how urgent it is, since when it waits, and what for."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("work") as table:
        table.add_column(sa.Column("share", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("wanted_since", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("waits_for", sa.String(), nullable=True))


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("work") as table:
        for name in ("waits_for", "wanted_since", "priority", "share"):
            table.drop_column(name)
