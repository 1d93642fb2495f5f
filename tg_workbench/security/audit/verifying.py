"""Verifying the audit log, offline: from a database, its heads, and a public key.

Every entry is hashed again, in order, and must follow from the one before; every signed head must hold and be
in the log, and the head over all heads must fit them; every organisation must have a log; with the signing
key at hand every seal is checked too. The first broken entry of each tenant is named, whatever somebody has
written in its place. It reads a row at a time, so a log of any length will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import AuditUnreadable, SigningKeyUnreadable
from tg_workbench.identity import Organization
from tg_workbench.security.audit.chain import FIELDS, GENESIS, hash_of, seal_of
from tg_workbench.security.audit.entries import WORKBENCH, AuditEntries, microseconds, sealing_secret
from tg_workbench.security.audit.heads import ALL, Head, HeadFiles, heads_in, problem_of_all
from tg_workbench.security.tables import AuditEntry
from tg_workbench.storage import Database
from tg_workbench.storage.database import now

COLUMNS = (*FIELDS, "hash")
ROWS_AT_ONCE = 1000
USED = {"api_keys", "datasets", "training_clients", "users", "webhook_subscriptions"}
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

    def add(self, tenant_id: str, number: int | None, problem: str) -> None:
        """Something was found. What somebody has written for a tenant's id may be no text at all."""
        readable = str(tenant_id).encode("ascii", "backslashreplace").decode()
        self.breaks.append(Break(readable, number, problem))

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
                problem = (
                    f"it and all others up to entry {left.newest} are gone: an older database, or removed"
                )
                verdict.add(tenant_id, 1, problem)
        _look_for_what_is_gone(session, verdict)
        _look_at_all_heads(session, public, kept, verdict)
    return verdict


@contextmanager
def reading(database: Database) -> Iterator[Session]:
    """A session for looking at a log that is there. Raises AuditUnreadable."""
    if not database.path.is_file():
        raise AuditUnreadable(str(database.path))
    with database.read() as session:
        if not sa.inspect(session.connection()).has_table(AuditEntry.__tablename__):
            raise AuditUnreadable(str(database.path))
        driver: Any = session.connection().connection.driver_connection
        driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        try:
            yield session
        finally:
            driver.text_factory = str


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
    stored = list(heads_in(session))
    filed = {head.tenant_id for _, head in kept or () if head is not None}
    for _, head in stored if kept is not None else ():
        if head is not None and head.tenant_id not in filed and _is_old(head.at):
            owner = WORKBENCH if head.tenant_id == ALL else head.tenant_id
            verdict.add(owner, None, "the file of its head is gone")
    for tenant_id, head in stored:
        if head is None:
            verdict.add(tenant_id, None, "the database holds no head where its head was")
    found = [("the database", head) for _, head in stored if head is not None]
    heads: dict[str, _Heads] = {}
    for place, told in (*found, *(kept or ())):
        if told is None:
            verdict.add("?", None, f"{place} holds no head")
            continue
        if told.tenant_id == ALL:
            continue
        problem = heads.setdefault(told.tenant_id, _Heads()).add(told, public)
        if problem is not None:
            verdict.add(told.tenant_id, told.number, f"{problem} ({place})")
    return heads


def _look_for_what_is_gone(session: Session, verdict: Verdict) -> None:
    """Whose log is not there at all: making an organisation leaves an entry in its log, so each has one."""
    logs = set(AuditEntries(session).tenants())
    for organization_id, made_at in session.exec(select(Organization.id, Organization.created_at)):
        is_young = isinstance(made_at, float) and not _is_old(microseconds(made_at))
        if organization_id not in logs and organization_id != WORKBENCH and not is_young:
            verdict.add(organization_id, 1, "it and all others are gone: it has no log")
    if not logs and is_used(session):
        verdict.add(WORKBENCH, 1, "it and all others are gone: the workbench was used")


def is_used(session: Session) -> bool:
    """Whether there is anything that nobody makes without leaving an entry."""
    known = set(sa.inspect(session.connection()).get_table_names())
    asked = (sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1) for name in USED & known)
    return any(session.execute(query).first() is not None for query in asked)


def _look_at_all_heads(
    session: Session, public: VerifyingKey, kept: list[tuple[str, Head | None]] | None, verdict: Verdict
) -> None:
    filed = next((head for _, head in kept or () if head is not None and head.tenant_id == ALL), None)
    problem = problem_of_all(heads_in(session), filed, public)
    if problem is not None:
        verdict.add(WORKBENCH, None, problem)


def _is_old(at: int) -> bool:
    return at < microseconds(now() - YOUNG_SECONDS)


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
        verdict.entries += 1
        problem = _problem(entry, number, previous, heads, secret)
        if problem is not None:
            verdict.add(tenant_id, number, problem)
            return
        began, previous = began or entry["at"], entry["hash"]
    if heads.hashes:
        problem = f"it and what followed up to entry {heads.newest} are gone: an older database, or removed"
        verdict.add(tenant_id, number + 1, problem)
    elif not heads.newest and _is_old(began) and not verdict.has(tenant_id):
        verdict.add(tenant_id, None, "it has no signed head")
    verdict.unsigned += max(number - heads.newest, 0)


def _problem(
    entry: Mapping[str, Any], number: int, previous: str, heads: _Heads, secret: bytes | None
) -> str | None:
    if entry["number"] != number:
        return "it is missing"
    if type(entry["at"]) is not int:
        return "it holds what no entry holds"
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
