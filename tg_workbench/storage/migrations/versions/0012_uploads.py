"""Datasets come as files: what was uploaded, how it stands, what is in it; and files come in pieces."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = (
    sa.Column("status", sa.String(), nullable=False, server_default="ready"),
    sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
    sa.Column("reason", sa.Text(), nullable=True),
    sa.Column("description", sa.Text(), nullable=True),
    sa.Column("dataset_type", sa.String(), nullable=True),
    sa.Column("source", sa.String(), nullable=True),
    sa.Column("file_name", sa.String(), nullable=True),
    sa.Column("file_size", sa.Integer(), nullable=True),
    sa.Column("file_format", sa.String(), nullable=True),
    sa.Column("target", sa.String(), nullable=True),
    sa.Column("profile", sa.JSON(), nullable=True),
    sa.Column("encoding", sa.JSON(), nullable=True),
    sa.Column("asked", sa.JSON(), nullable=True),
)
VERSIONS = """
UPDATE datasets SET version = (
    SELECT count(*) FROM datasets AS other
    WHERE other.owner_id = datasets.owner_id AND other.name = datasets.name
    AND (other.created_at < datasets.created_at
         OR (other.created_at = datasets.created_at AND other.id <= datasets.id))
)
"""


def upgrade() -> None:
    """Add the columns and the table; datasets of one name become each other's versions."""
    with op.batch_alter_table("datasets") as table:
        for column in COLUMNS:
            table.add_column(column)
    op.execute(VERSIONS)
    op.create_index("ix_datasets_family", "datasets", ["owner_id", "name", "version"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_uploads_owner_id", "uploads", ["owner_id"])


def downgrade() -> None:
    """Remove them. What is not ready has no rows, which an older version cannot know: it goes, too."""
    op.drop_table("uploads")
    op.drop_index("ix_datasets_family", "datasets")
    op.execute("DELETE FROM datasets WHERE status <> 'ready'")
    with op.batch_alter_table("datasets") as table:
        for column in reversed(COLUMNS):
            table.drop_column(column.name)
