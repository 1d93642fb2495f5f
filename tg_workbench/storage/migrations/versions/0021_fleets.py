"""Fleets, whom the server drew for a round, and the noise that was paid for."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "fleets",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("delta", sa.Float(), nullable=False),
        sa.Column("epsilon_cap", sa.Float()),
        sa.Column("require_privacy", sa.Boolean(), nullable=False),
        sa.Column("spent_epsilon", sa.Float(), nullable=False),
        sa.Column("plain_rounds", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("tenant_id"),
    )
    op.create_table(
        "round_draws",
        sa.Column("round_id", sa.String(), primary_key=True),
        sa.Column("fleet_id", sa.String(), nullable=False),
        sa.Column("sample_rate", sa.Float(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("drawn", sa.JSON(), nullable=False),
        sa.Column("drawn_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "round_charges",
        sa.Column("round_id", sa.String(), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True),
        sa.Column("fleet_id", sa.String(), nullable=False),
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("context", sa.String(), nullable=False),
        sa.Column("expected_devices", sa.Float(), nullable=False),
        *_costs(),
        sa.Column("accountant", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("charged_at", sa.Float(), nullable=False),
        sa.Column("released_at", sa.Float()),
    )
    op.create_index("ix_round_charges_campaign", "round_charges", ["campaign_id"])
    op.create_table(
        "noise_trees",
        sa.Column("campaign_id", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("fleet_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("participations", sa.Integer(), nullable=False),
        sa.Column("separation", sa.Integer(), nullable=False),
        sa.Column("noise_multiplier", sa.Float(), nullable=False),
        sa.Column("clip_norm", sa.Float(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("joined", sa.JSON(), nullable=False),
        *_costs(),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("charged_at", sa.Float(), nullable=False),
        sa.Column("done_at", sa.Float()),
    )


def downgrade() -> None:
    """Remove them, unless that would forget what was spent."""
    spent = op.get_bind().execute(sa.text("SELECT count(*) FROM fleets WHERE spent_epsilon > 0")).scalar()
    if spent:
        raise RuntimeError("an older version cannot count what was spent on fleets of devices")
    for table in ("noise_trees", "round_charges", "round_draws", "fleets"):
        op.drop_table(table)


def _costs() -> list[sa.Column[float]]:
    names = ("epsilon", "round_epsilon", "fleet_epsilon")
    return [sa.Column(name, sa.Float(), nullable=False) for name in names]
