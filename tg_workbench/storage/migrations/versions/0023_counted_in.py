"""Updates that come late go into the model of a later round, and how many make a model the round says."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What was accepted so far was counted in its own round."""
    with op.batch_alter_table("participations") as table:
        table.add_column(sa.Column("counted_in", sa.String(), nullable=True))
    op.execute("UPDATE participations SET counted_in = round_id WHERE status = 'accepted'")
    op.create_index("ix_participations_counted", "participations", ["counted_in", "device_id"], unique=True)
    _forget_buffer_size()


def downgrade() -> None:
    """Remove it."""
    op.drop_index("ix_participations_counted", "participations")
    with op.batch_alter_table("participations") as table:
        table.drop_column("counted_in")


def _forget_buffer_size() -> None:
    """An option of FedBuff's that had no effect, and is none any more."""
    campaigns = sa.table("campaigns", sa.column("id", sa.String), sa.column("spec", sa.JSON))
    connection = op.get_bind()
    for campaign_id, spec in connection.execute(sa.select(campaigns.c.id, campaigns.c.spec)).all():
        if spec["strategy_options"].pop("buffer_size", None) is not None:
            change = sa.update(campaigns).where(campaigns.c.id == campaign_id)
            connection.execute(change.values(spec=spec))
