"""The audit log: entries that only come, and the signed head of each tenant's."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

REFUSED = ("UPDATE", "DELETE")


def upgrade() -> None:
    """Make the tables, and the first fence around the entries: no statement changes or removes one."""
    texts = ("actor_id", "credential_id", "object_kind", "object_id", "reason", "request_id", "address")
    op.create_table(
        "audit_entries",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=True) for name in texts),
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("actor_kind", "action", "outcome", "previous", "seal", "hash")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_heads",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
    )
    for verb in REFUSED:
        op.execute(
            f"CREATE TRIGGER audit_entries_refuse_{verb.lower()} BEFORE {verb} ON audit_entries "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def downgrade() -> None:
    """Remove them, unless something was recorded: the older version would lose it."""
    if op.get_bind().execute(sa.text("SELECT count(*) FROM audit_entries")).scalar():
        raise RuntimeError("the audit log has entries that the older version would forget")
    for verb in REFUSED:
        op.execute(f"DROP TRIGGER audit_entries_refuse_{verb.lower()}")
    op.drop_table("audit_heads")
    op.drop_table("audit_entries")
