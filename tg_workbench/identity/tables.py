"""What the identity room stores. No secret is here: of each only its hash."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class ApiKey(SQLModel, table=True):
    """One API key. The key itself is not here: only its SHA-256 and its last four characters."""

    __tablename__ = "api_keys"
    __table_args__ = (sa.UniqueConstraint("principal_id", "idempotency_key"),)

    id: str = Field(primary_key=True)
    name: str
    principal_id: str = Field(index=True)
    tenant_id: str
    scopes: list[str] = Field(sa_type=sa.JSON)
    hash: str = Field(unique=True)
    last_four: str
    idempotency_key: str | None = None
    created_at: float = Field(default_factory=now)
    expires_at: float | None = None
    revoked_at: float | None = None


class Organization(SQLModel, table=True):
    """A tenant: its members share nothing by themselves, and nobody else sees that it is there."""

    __tablename__ = "organizations"

    id: str = Field(primary_key=True)
    name: str
    description: str | None = None
    created_by: str | None = None
    created_at: float = Field(default_factory=now)


class User(SQLModel, table=True):
    """A person. The `_key` columns hold the name and the address as they are compared."""

    __tablename__ = "users"

    id: str = Field(primary_key=True)
    username: str
    username_key: str = Field(unique=True)
    email: str
    email_key: str = Field(unique=True)
    full_name: str | None = None
    password_hash: str | None = None
    created_at: float = Field(default_factory=now)
    deactivated_at: float | None = None


class Membership(SQLModel, table=True):
    """A person's place in an organisation. Its id is the principal's: what they make belongs to it."""

    __tablename__ = "memberships"
    __table_args__ = (sa.UniqueConstraint("user_id", "organization_id"),)

    id: str = Field(primary_key=True)
    user_id: str = Field(index=True)
    organization_id: str = Field(index=True)
    role: str
    permissions: str | None = None
    """Scopes, separated by spaces; null: those of the role."""
    created_at: float = Field(default_factory=now)
    ended_at: float | None = None


class Invitation(SQLModel, table=True):
    """A place in an organisation for whoever brings the token, once."""

    __tablename__ = "invitations"

    id: str = Field(primary_key=True)
    hash: str = Field(unique=True)
    organization_id: str = Field(index=True)
    role: str
    created_by: str
    created_at: float = Field(default_factory=now)
    expires_at: float
    ended_at: float | None = None
    """When it was used or withdrawn."""


class UserSession(SQLModel, table=True):
    """A signed-in device, or an application that a user has let in (`client_id`)."""

    __tablename__ = "user_sessions"

    id: str = Field(primary_key=True)
    membership_id: str = Field(index=True)
    client_id: str | None = Field(default=None, index=True)
    scopes: str | None = None
    """A ceiling, separated by spaces; null: whatever the member may do."""
    rotates: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    """Whether each of its refresh tokens is good once: so it stays when rotation was asked for once."""
    created_at: float = Field(default_factory=now)
    expires_at: float
    ended_at: float | None = None


class RefreshToken(SQLModel, table=True):
    """One refresh token of a session, by its SHA-256. A superseded one that comes back was stolen."""

    __tablename__ = "refresh_tokens"

    hash: str = Field(primary_key=True)
    session_id: str = Field(index=True)
    issued_at: float = Field(default_factory=now)
    used_at: float | None = None
    superseded_at: float | None = None


class OAuthClient(SQLModel, table=True):
    """An application that users may let in. Without a secret it is public, and proves itself by PKCE."""

    __tablename__ = "oauth_clients"

    id: str = Field(primary_key=True)
    name: str
    organization_id: str = Field(index=True)
    secret_hash: str | None = None
    redirect_uris: list[str] = Field(sa_type=sa.JSON)
    scope: str
    created_by: str
    created_at: float = Field(default_factory=now)
    deleted_at: float | None = None


class OAuthCode(SQLModel, table=True):
    """An authorization code, by its SHA-256: good once, for a minute."""

    __tablename__ = "oauth_codes"

    hash: str = Field(primary_key=True)
    client_id: str
    membership_id: str
    redirect_uri: str
    scope: str
    code_challenge: str | None = None
    created_at: float = Field(default_factory=now)
    expires_at: float
    used_at: float | None = None
    session_id: str | None = None
    """The session it was exchanged for, which ends when the code comes back."""
