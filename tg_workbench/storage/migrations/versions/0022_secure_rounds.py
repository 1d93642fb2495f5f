"""Rounds whose updates are summed under masks: how far they are, and what devices say to each other."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "secure_rounds",
        sa.Column("round_id", sa.String(), sa.ForeignKey("rounds.id"), primary_key=True),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("roster", sa.JSON(), nullable=True),
        sa.Column("survivors", sa.JSON(), nullable=True),
    )
    op.create_table(
        "secure_messages",
        sa.Column("round_id", sa.String(), sa.ForeignKey("rounds.id"), primary_key=True),
        sa.Column("step", sa.String(), primary_key=True),
        sa.Column("device_id", sa.String(), primary_key=True),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
    )
    op.create_table(
        "secure_parcels",
        sa.Column("round_id", sa.String(), sa.ForeignKey("rounds.id"), primary_key=True),
        sa.Column("sender", sa.String(), primary_key=True),
        sa.Column("recipient", sa.String(), primary_key=True),
        sa.Column("shares", sa.LargeBinary(), nullable=False),
        sa.Column("pair", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_secure_parcels_recipient", "secure_parcels", ["round_id", "recipient"])


def downgrade() -> None:
    """Drop them."""
    for table in ("secure_parcels", "secure_messages", "secure_rounds"):
        op.drop_table(table)
