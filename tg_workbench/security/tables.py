"""What the security room stores: wrapped data keys, and the audit log with its signed heads."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class WrappedDataKey(SQLModel, table=True):
    """A tenant's AES-256 key, sealed under the key-encryption key `kek_id`."""

    __tablename__ = "data_keys"

    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    kek_id: str
    wrapped: bytes = Field(sa_type=sa.LargeBinary)
    created_at: float = Field(default_factory=now)


class AuditEntry(SQLModel, table=True):
    """One entry of a tenant's audit log. What each column is hashed as: `audit.chain`."""

    __tablename__ = "audit_entries"
    __table_args__ = ({"sqlite_with_rowid": False},)

    tenant_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    at: int
    actor_kind: str
    actor_id: str | None = None
    credential_id: str | None = None
    action: str
    object_kind: str | None = None
    object_id: str | None = None
    outcome: str
    reason: str | None = None
    count: int = 1
    request_id: str | None = None
    address: str | None = None
    previous: str
    seal: str
    hash: str


class AuditHead(SQLModel, table=True):
    """The newest signed head of a tenant's log: how many entries there were, and the hash of the last."""

    __tablename__ = "audit_heads"

    tenant_id: str = Field(primary_key=True)
    number: int
    hash: str
    at: int
    key_id: str
    signature: bytes = Field(sa_type=sa.LargeBinary)
