"""Populations: datasets about the same people share one ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every dataset is a population of its own until somebody says otherwise."""
    op.add_column("datasets", sa.Column("population", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE datasets SET population = id")
    op.create_index("ix_datasets_population", "datasets", ["population"], unique=False)


def downgrade() -> None:
    """Remove it."""
    op.drop_index("ix_datasets_population", table_name="datasets")
    op.drop_column("datasets", "population")
