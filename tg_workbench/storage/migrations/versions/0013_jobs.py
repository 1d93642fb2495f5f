"""Jobs, how long they take, and the training client that belongs to each."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the column."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("model_type", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("message", sa.String()),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("history", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("final_metrics", sa.JSON()),
        sa.Column("model_id", sa.String()),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("estimated_seconds", sa.Float()),
        sa.Column("idempotency_key", sa.String()),
        sa.Column("fingerprint", sa.String()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.UniqueConstraint("owner_id", "idempotency_key"),
    )
    op.create_index("ix_jobs_owner", "jobs", ["owner_id", "status"])
    op.create_index("ix_jobs_dataset_id", "jobs", ["dataset_id"])
    op.create_index("ix_jobs_client_id", "jobs", ["client_id"])
    op.create_table(
        "job_paces",
        sa.Column("tenant_id", sa.String(), primary_key=True),
        sa.Column("model_type", sa.String(), primary_key=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
    )
    with op.batch_alter_table("training_clients") as table:
        table.add_column(sa.Column("job_id", sa.String(), nullable=True))
        table.create_index("ix_training_clients_job_id", ["job_id"])


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("training_clients") as table:
        table.drop_index("ix_training_clients_job_id")
        table.drop_column("job_id")
    op.drop_table("job_paces")
    op.drop_table("jobs")
