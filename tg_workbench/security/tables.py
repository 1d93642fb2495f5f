"""What the security room stores: data keys, each wrapped by a key-encryption key."""

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
