"""Data keys: what a tenant's checkpoints are sealed with. Unwrapped, they exist in memory only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from tg_workbench.crypto import Keyring, new_key, open_sealed, seal
from tg_workbench.errors import SealBroken
from tg_workbench.security.tables import WrappedDataKey


@dataclass(frozen=True, slots=True)
class DataKey:
    """An unwrapped key and the name that checkpoints remember it by."""

    key_id: str
    key: bytes = field(repr=False)


class DataKeys:
    """The data keys of every tenant."""

    def __init__(self, session: Session, keyring: Keyring) -> None:
        self.session = session
        self.keyring = keyring

    def current(self, tenant_id: str) -> DataKey:
        """The tenant's newest key, made now if it has none. The caller holds a writing session."""
        query = (
            select(WrappedDataKey)
            .where(WrappedDataKey.tenant_id == tenant_id)
            .order_by(col(WrappedDataKey.created_at).desc(), col(WrappedDataKey.id))
        )
        newest = self.session.exec(query).first()
        return self._unwrap(newest) if newest is not None else self._make(tenant_id)

    def get(self, key_id: str) -> DataKey:
        """The key. Raises SealBroken when it is not here, or its wrapping does not hold."""
        row = self.session.get(WrappedDataKey, key_id)
        if row is None:
            raise SealBroken
        return self._unwrap(row)

    def rewrap(self) -> int:
        """Wrap every key again with the keyring's newest; what they sealed is not touched."""
        kek_id, kek = self.keyring.newest
        stale = list(self.session.exec(select(WrappedDataKey).where(WrappedDataKey.kek_id != kek_id)))
        for row in stale:
            row.wrapped = seal(kek, self._unwrap(row).key, _context(row.id, row.tenant_id))
            row.kek_id = kek_id
            self.session.add(row)
        self.session.flush()
        return len(stale)

    def _make(self, tenant_id: str) -> DataKey:
        key = DataKey(f"dek-{uuid.uuid4()}", new_key())
        kek_id, kek = self.keyring.newest
        wrapped = seal(kek, key.key, _context(key.key_id, tenant_id))
        self.session.add(WrappedDataKey(id=key.key_id, tenant_id=tenant_id, kek_id=kek_id, wrapped=wrapped))
        self.session.flush()
        return key

    def _unwrap(self, row: WrappedDataKey) -> DataKey:
        kek = self.keyring.get(row.kek_id)
        return DataKey(row.id, open_sealed(kek, row.wrapped, _context(row.id, row.tenant_id)))


def _context(key_id: str, tenant_id: str) -> bytes:
    """A wrapped key cannot be passed off as another tenant's."""
    return f"data-key|{key_id}|{tenant_id}".encode()
