"""Units and participants: whom ε is about, and who was in a step; batches that were cut."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CUT = ("truncated_batch_size", "dataset_size")


def upgrade() -> None:
    """What is there already: every row by itself, everybody in every step, no batch cut."""
    for name, kind in (("rows_digest", sa.String()), ("units", sa.Integer()), ("units_digest", sa.String())):
        op.add_column("datasets", sa.Column(name, kind, nullable=True))
    for name in CUT:
        op.add_column("ledger_events", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("ledger_events", sa.Column("participants", sa.LargeBinary(), nullable=True))
    op.rename_table("ledger_counts", "ledger_counts_before")
    _make_counts(*CUT)
    op.execute(
        "INSERT INTO ledger_counts (subject, noise_multiplier, sample_rate, truncated_batch_size, "
        "dataset_size, count) SELECT subject, noise_multiplier, sample_rate, 0, 0, count "
        "FROM ledger_counts_before"
    )
    op.drop_table("ledger_counts_before")


def downgrade() -> None:
    """Remove them. What cannot be said without them is refused: it would be forgotten."""
    told = "SELECT count(*) FROM ledger_events WHERE participants IS NOT NULL OR truncated_batch_size > 0"
    if op.get_bind().execute(sa.text(told)).scalar():
        raise RuntimeError("the ledger holds steps that the older version cannot count")
    if op.get_bind().execute(sa.text("SELECT count(*) FROM datasets WHERE units IS NOT NULL")).scalar():
        raise RuntimeError("datasets say whose their rows are, which the older version would forget")
    op.rename_table("ledger_counts", "ledger_counts_before")
    _make_counts()
    op.execute(
        "INSERT INTO ledger_counts (subject, noise_multiplier, sample_rate, count) "
        "SELECT subject, noise_multiplier, sample_rate, count FROM ledger_counts_before"
    )
    op.drop_table("ledger_counts_before")
    for name in ("participants", *CUT):
        op.drop_column("ledger_events", name)
    for name in ("units_digest", "units", "rows_digest"):
        op.drop_column("datasets", name)


def _make_counts(*cut: str) -> None:
    keys = ("subject", "noise_multiplier", "sample_rate", *cut)
    op.create_table(
        "ledger_counts",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("noise_multiplier", sa.Float(), nullable=False),
        sa.Column("sample_rate", sa.Float(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False, server_default="0") for name in cut),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(*keys),
    )
