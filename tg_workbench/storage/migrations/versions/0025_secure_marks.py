"""Parcels of secure rounds say by which marks their shares are known again.

A round that exchanges secrets while the workbench is upgraded goes no further: its parcels are dropped.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table anew: what is in it is good for minutes only."""
    _make(sa.Column("marks", sa.LargeBinary(), nullable=False))


def downgrade() -> None:
    """Make it as it was."""
    _make()


def _make(*more: sa.Column[bytes]) -> None:
    op.drop_table("secure_parcels")
    op.create_table(
        "secure_parcels",
        sa.Column("round_id", sa.String(), sa.ForeignKey("rounds.id"), primary_key=True),
        sa.Column("sender", sa.String(), primary_key=True),
        sa.Column("recipient", sa.String(), primary_key=True),
        sa.Column("shares", sa.LargeBinary(), nullable=False),
        sa.Column("pair", sa.LargeBinary(), nullable=False),
        *more,
    )
    op.create_index("ix_secure_parcels_recipient", "secure_parcels", ["round_id", "recipient"])
