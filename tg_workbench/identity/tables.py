"""What the identity room stores: API keys, by the hash of each."""

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
