"""Users, organisations, memberships, invitations, sessions, and OAuth clients with their codes.

The organisation `local` is there already: that of the local principal, whose things are from before.
"""

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make("organizations", _text("name"), _text("description", True), _text("created_by", True), _time())
    op.execute(
        sa.text(
            "INSERT INTO organizations (id, name, created_at) VALUES ('local', 'Local', :now)"
        ).bindparams(now=time.time())
    )
    _make(
        "users",
        *(_text(name) for name in ("username", "username_key", "email", "email_key")),
        *(_text(name, True) for name in ("full_name", "password_hash")),
        _time(),
        _time("deactivated_at", True),
        sa.UniqueConstraint("username_key"),
        sa.UniqueConstraint("email_key"),
    )
    _make(
        "memberships",
        *(_text(name) for name in ("user_id", "organization_id", "role")),
        _text("permissions", True),
        _time(),
        _time("ended_at", True),
        sa.UniqueConstraint("user_id", "organization_id"),
        indexes=("user_id", "organization_id"),
    )
    _make(
        "invitations",
        *(_text(name) for name in ("hash", "organization_id", "role", "created_by")),
        _time(),
        _time("expires_at"),
        _time("ended_at", True),
        sa.UniqueConstraint("hash"),
        indexes=("organization_id",),
    )
    _make(
        "user_sessions",
        _text("membership_id"),
        *(_text(name, True) for name in ("client_id", "scopes")),
        _time(),
        _time("expires_at"),
        _time("ended_at", True),
        indexes=("membership_id", "client_id"),
    )
    _make(
        "refresh_tokens",
        _text("session_id"),
        _time("issued_at"),
        _time("used_at", True),
        _time("superseded_at", True),
        key="hash",
        indexes=("session_id",),
    )
    _make(
        "oauth_clients",
        *(_text(name) for name in ("name", "organization_id")),
        _text("secret_hash", True),
        sa.Column("redirect_uris", sa.JSON(), nullable=False),
        *(_text(name) for name in ("scope", "created_by")),
        _time(),
        _time("deleted_at", True),
        indexes=("organization_id",),
    )
    _make(
        "oauth_codes",
        *(_text(name) for name in ("client_id", "membership_id", "redirect_uri", "scope")),
        _text("code_challenge", True),
        _time(),
        _time("expires_at"),
        _time("used_at", True),
        _text("session_id", True),
        key="hash",
    )


def downgrade() -> None:
    """Remove them."""
    for table in (
        "oauth_codes",
        "oauth_clients",
        "refresh_tokens",
        "user_sessions",
        "invitations",
        "memberships",
        "users",
        "organizations",
    ):
        op.drop_table(table)


def _make(table: str, *columns: Any, key: str = "id", indexes: tuple[str, ...] = ()) -> None:
    op.create_table(table, sa.Column(key, sa.String(), primary_key=True), *columns)
    for column in indexes:
        op.create_index(f"ix_{table}_{column}", table, [column], unique=False)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _time(name: str = "created_at", nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)
