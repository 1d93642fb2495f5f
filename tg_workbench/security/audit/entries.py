"""Entries of the audit log: what may be said of a deed, how it is appended, and how entries are looked up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.security.audit.chain import FACTS, GENESIS, SEAL_PURPOSE, seal_and_hash
from tg_workbench.security.tables import AuditEntry
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement, insertion

WORKBENCH = LOCAL_PRINCIPAL.tenant_id
"""Whose log tells of the workbench itself: its operator's."""
Outcome = Literal["done", "failed", "refused"]
"""`done`: what it changed was stored. `failed`: nothing was. `refused`: one may not, or not so often."""
OUTCOMES = ("done", "failed", "refused")
PLAIN = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
"""What a text in an entry may be: ids, names of ours, addresses."""

TEXTS = [name for name in FACTS if name not in ("number", "at", "count")]
_NEWEST = Statement(
    sa.select(col(AuditEntry.number), col(AuditEntry.hash))
    .where(col(AuditEntry.tenant_id) == sa.bindparam("tenant"))
    .order_by(col(AuditEntry.number).desc())
    .limit(1)
)
_INSERT = insertion(AuditEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What is to be recorded. Raises ValueError for what an entry must not hold."""

    tenant_id: str
    action: str
    outcome: Outcome
    actor_kind: str
    actor_id: str | None = None
    credential_id: str | None = None
    object_kind: str | None = None
    object_id: str | None = None
    reason: str | None = None
    """The kind of error it ended in, whose text may repeat what was sent and so is not here; or what was
    given: `role:viewer`, `scopes:read/train`."""
    count: int = 1
    """How many requests it stands for, where many refused ones are told of together."""
    request_id: str | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        told = (getattr(self, name) for name in TEXTS)
        is_plain = all(text is None or PLAIN.fullmatch(text) for text in told)
        if self.outcome not in OUTCOMES or not is_plain or self.count < 1:
            raise ValueError("an audit entry holds ids, names of ours and addresses, and nothing else")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries are wanted; what is None does not matter. Times are seconds since 1970."""

    actor_id: str | None = None
    action: str | None = None
    since: float | None = None
    until: float | None = None

    def conditions(self) -> list[Any]:
        """The same for a statement."""
        wanted: list[Any] = []
        if self.actor_id is not None:
            wanted.append(col(AuditEntry.actor_id) == self.actor_id)
        if self.action is not None:
            wanted.append(col(AuditEntry.action) == self.action)
        if self.since is not None:
            wanted.append(col(AuditEntry.at) >= microseconds(self.since))
        if self.until is not None:
            wanted.append(col(AuditEntry.at) < microseconds(self.until))
        return wanted


class AuditEntries:
    """The entries of every tenant's log."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def append(self, deed: Deed, secret: bytes) -> None:
        """Write `deed` behind the newest entry of its tenant. The caller holds a writing session."""
        newest = _NEWEST.first(self.session, tenant=deed.tenant_id)
        entry: dict[str, Any] = {
            **{name: getattr(deed, name) for name in Deed.__slots__},
            "number": 1 if newest is None else newest.number + 1,
            "at": microseconds(now()),
            "previous": GENESIS if newest is None else newest.hash,
        }
        seal, entry_hash = seal_and_hash(secret, entry)
        _INSERT.change(self.session, **entry, seal=seal, hash=entry_hash)

    def list_page(
        self, tenant_id: str, query: AuditQuery, *, limit: int = 50, offset: int = 0
    ) -> tuple[Sequence[AuditEntry], int]:
        """A tenant's entries that `query` wants, the newest first, and how many there are."""
        mine = (col(AuditEntry.tenant_id) == tenant_id, *query.conditions())
        total = self.session.exec(select(sa.func.count()).select_from(AuditEntry).where(*mine)).one()
        page = select(AuditEntry).where(*mine).order_by(col(AuditEntry.number).desc())
        return self.session.exec(page.limit(limit).offset(offset)).all(), total

    def newest(self, tenant_id: str) -> tuple[int, str] | None:
        """The number and the hash of a tenant's newest entry."""
        found = _NEWEST.first(self.session, tenant=tenant_id)
        return None if found is None else (found.number, found.hash)

    def is_empty(self) -> bool:
        """Whether no tenant has a log."""
        query = sa.select(sa.literal(1)).select_from(AuditEntry).limit(1)
        return self.session.execute(query).first() is None

    def tenants(self) -> list[str]:
        """Every tenant that has a log. It looks at every entry."""
        return list(self.session.exec(select(col(AuditEntry.tenant_id)).distinct()))


def sealing_secret(key: SigningKey) -> bytes:
    """What entries are sealed with."""
    return key.derived(SEAL_PURPOSE)


def microseconds(seconds: float) -> int:
    """A time as entries hold it."""
    return round(seconds * 1_000_000)
