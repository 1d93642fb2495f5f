"""A table is told again by what stands in it, in whatever format it comes."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what is there already it is not known."""
    with op.batch_alter_table("datasets") as table:
        table.add_column(sa.Column("cells_digest", sa.String(), nullable=True))


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("datasets") as table:
        table.drop_column("cells_digest")
