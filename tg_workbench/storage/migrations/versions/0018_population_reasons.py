"""A dataset says why it shares its budget with others."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what is there already it is not known."""
    with op.batch_alter_table("datasets") as table:
        table.add_column(sa.Column("population_because", sa.String(), nullable=True))


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("datasets") as table:
        table.drop_column("population_because")
