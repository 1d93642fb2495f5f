"""Verifying the audit log, offline: from a database, its heads, and a public key.

Every entry is hashed again, in order, and must follow from the one before; every signed head must hold and be
in the log; with the signing key at hand every seal is checked too. The first broken entry of each tenant is
named. It reads a row at a time, so a log of any length will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import AuditUnreadable, SigningKeyUnreadable
from tg_workbench.security.audit import microseconds, sealing_secret
from tg_workbench.security.audit_chain import FIELDS, GENESIS, hash_of, seal_of
from tg_workbench.security.audit_heads import Head, HeadFiles
from tg_workbench.security.tables import AuditEntry, AuditHead
from tg_workbench.storage import Database
from tg_workbench.storage.database import now

COLUMNS = (*FIELDS, "hash")
ROWS_AT_ONCE = 1000
YOUNG_SECONDS = 60.0
"""A log that began so lately may have no head yet, and a head signed so lately no file."""


@dataclass(frozen=True, slots=True)
class Break:
    """Where a tenant's log does not hold: the first such entry, or None when it is a head."""

    tenant_id: str
    number: int | None
    problem: str

    def __str__(self) -> str:
        where = "" if self.number is None else f", entry {self.number}"
        return f"tenant {self.tenant_id}{where}: {self.problem}"


@dataclass(slots=True)
class Verdict:
    """What was found."""

    entries: int = 0
    tenants: int = 0
    unsigned: int = 0
    """Entries after the newest head: those of the last second, or before a crash."""
    breaks: list[Break] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.breaks

    def has(self, tenant_id: str) -> bool:
        """Whether something was found in this tenant's log."""
        return any(found.tenant_id == tenant_id for found in self.breaks)


@dataclass(slots=True)
class _Heads:
    """The signed heads of one tenant, by number; those that are passed in the log are removed."""

    hashes: dict[int, str] = field(default_factory=dict)
    newest: int = 0

    def add(self, head: Head, public: VerifyingKey) -> str | None:
        """Take up a head, or say why not."""
        if not head.is_signed_by(public):
            return "its head is not signed by this key"
        if self.hashes.setdefault(head.number, head.hash) != head.hash:
            return "two heads were signed for it"
        self.newest = max(self.newest, head.number)
        return None


def verify(
    database: Database,
    public: VerifyingKey | None = None,
    *,
    key: SigningKey | None = None,
    files: HeadFiles | None = None,
) -> Verdict:
    """Look at everything, with a public key or the signing `key`.

    The latter also checks the seals, and `files` tell the heads beside the database. Raises AuditUnreadable,
    DatabaseUnavailable, and SigningKeyUnreadable without a key.
    """
    if public is None:
        if key is None:
            raise SigningKeyUnreadable("nothing")
        public = key.public
    kept = None if files is None else list(files.all())  # first: a head may be signed while we look
    with reading(database) as session:
        verdict = Verdict()
        heads = _signed_heads(session, public, kept, verdict)
        secret = None if key is None else sealing_secret(key)
        for tenant_id, entries in groupby(rows(session), key=lambda entry: entry["tenant_id"]):
            verdict.tenants += 1
            _follow(str(tenant_id), entries, heads.pop(tenant_id, _Heads()), secret, verdict)
    for tenant_id, left in heads.items():
        if left.hashes:
            problem = f"it and all others up to entry {left.newest} are gone: an older database, or removed"
            verdict.breaks.append(Break(tenant_id, 1, problem))
    return verdict


@contextmanager
def reading(database: Database) -> Iterator[Session]:
    """A session for looking at a log that is there. Raises AuditUnreadable."""
    if not database.path.is_file():
        raise AuditUnreadable(str(database.path))
    with database.read() as session:
        if not sa.inspect(session.connection()).has_table(AuditEntry.__tablename__):
            raise AuditUnreadable(str(database.path))
        yield session


def rows(session: Session, tenant_id: str | None = None) -> Iterator[Mapping[str, Any]]:
    """Every entry of a tenant, or of all, in the order of the chain."""
    query = sa.select(*(getattr(AuditEntry, name) for name in COLUMNS))
    if tenant_id is not None:
        query = query.where(col(AuditEntry.tenant_id) == tenant_id)
    query = query.order_by(col(AuditEntry.tenant_id), col(AuditEntry.number))
    result = session.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
    for row in result.mappings():
        yield {**row}


def _signed_heads(
    session: Session, public: VerifyingKey, kept: list[tuple[str, Head | None]] | None, verdict: Verdict
) -> dict[str, _Heads]:
    """Every head that somebody kept, by tenant; one that is not signed is a break by itself."""
    stored = [Head(**row.model_dump()) for row in session.exec(select(AuditHead))]
    filed = {head.tenant_id for _, head in kept or () if head is not None}
    for head in stored if kept is not None else ():
        if head.tenant_id not in filed and head.at < microseconds(now() - YOUNG_SECONDS):
            verdict.breaks.append(Break(head.tenant_id, None, "the file of its head is gone"))
    found: list[tuple[str, Head | None]] = [("the database", head) for head in stored]
    found += kept or ()
    heads: dict[str, _Heads] = {}
    for place, told in found:
        if told is None:
            verdict.breaks.append(Break("?", None, f"{place} holds no head"))
            continue
        problem = heads.setdefault(told.tenant_id, _Heads()).add(told, public)
        if problem is not None:
            verdict.breaks.append(Break(told.tenant_id, told.number, f"{problem} ({place})"))
    return heads


def _follow(
    tenant_id: str,
    entries: Iterator[Mapping[str, Any]],
    heads: _Heads,
    secret: bytes | None,
    verdict: Verdict,
) -> None:
    """Walk along one chain, and stop at its first break."""
    number, previous, began = 0, GENESIS, 0
    for entry in entries:
        number += 1
        began = began or entry["at"]
        verdict.entries += 1
        problem = _problem(entry, number, previous, heads, secret)
        if problem is not None:
            verdict.breaks.append(Break(tenant_id, number, problem))
            return
        previous = entry["hash"]
    if heads.hashes:
        problem = f"it and what followed up to entry {heads.newest} are gone: an older database, or removed"
        verdict.breaks.append(Break(tenant_id, number + 1, problem))
    elif not heads.newest and began < microseconds(now() - YOUNG_SECONDS) and not verdict.has(tenant_id):
        verdict.breaks.append(Break(tenant_id, None, "it has no signed head"))
    verdict.unsigned += max(number - heads.newest, 0)


def _problem(
    entry: Mapping[str, Any], number: int, previous: str, heads: _Heads, secret: bytes | None
) -> str | None:
    if entry["number"] != number:
        return "it is missing"
    try:
        computed, sealed = hash_of(entry), secret is None or seal_of(secret, entry) == entry["seal"]
    except TypeError:
        return "it holds what no entry holds"
    if computed != entry["hash"]:
        return "it was changed"
    if entry["previous"] != previous:
        return "it does not follow from the entry before it"
    if not sealed:
        return "it was not written by this workbench"
    signed = heads.hashes.pop(number, computed)
    return None if signed == computed else "it is not the entry that was signed"
