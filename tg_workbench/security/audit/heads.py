"""Signed heads: how many entries a tenant's log has and the hash of the last one, under the workbench's key.

The newest head of each tenant is in the database and in a file beside it, so a database that is put back from
an older copy is noticed. A head is only ever signed when it extends every head signed before, through entries
that this workbench has sealed: it never vouches for what somebody else has written into the database.

One more head, under a name that no tenant can have (`ALL`), is signed over the heads of all tenants whenever
one of them is stored: so no tenant's log can vanish with its head, nor be put back alone. `number` is how
many entries all heads stand for, `hash` the SHA-256 of their tenants, numbers and hashes. Once it does not
fit the heads that are there it is never signed again.

Pitfalls: after a backup was put back on purpose, the files still tell of the entries that are gone, and
nothing is signed until somebody has moved them away. Keep them: they prove what was lost.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col

from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.security.audit.chain import FIELDS, GENESIS, HEAD_LABEL, encode, hash_of, seal_of
from tg_workbench.security.audit.entries import AuditEntries, microseconds, sealing_secret
from tg_workbench.security.tables import AuditEntry, AuditHead
from tg_workbench.storage import Database
from tg_workbench.storage.database import now

CONTEXT = b"tg-audit-head-1"
ALL = "*"
HEADS_LABEL = "tg-audit-heads-1"
MOST_FILE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Head:
    """One signed head."""

    tenant_id: str
    number: int
    hash: str
    at: int
    key_id: str
    signature: bytes

    @classmethod
    def sign(cls, key: SigningKey, tenant_id: str, number: int, entry_hash: str) -> Head:
        """A head, signed now."""
        at = microseconds(now())
        signature = key.sign(encode(HEAD_LABEL, (tenant_id, number, entry_hash, at)), CONTEXT)
        return cls(tenant_id, number, entry_hash, at, key.public.key_id, signature)

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Head:
        """The head that somebody has stored. Raises ValueError when it is none."""
        if values.keys() != _KINDS.keys() or any(type(values[name]) is not _KINDS[name] for name in _KINDS):
            raise ValueError("not a signed head")
        return cls(**values)

    @classmethod
    def of_json(cls, text: bytes) -> Head:
        """The head in a file. Raises ValueError."""
        try:
            values = json.loads(text)
            return cls.of_values(
                {**values, "signature": base64.b64decode(values["signature"], validate=True)}
            )
        except (KeyError, TypeError, RecursionError) as failure:
            raise ValueError("not a signed head") from failure

    def as_json(self) -> dict[str, Any]:
        """The head as files and exports hold it."""
        return {**asdict(self), "signature": base64.b64encode(self.signature).decode()}

    def is_signed_by(self, key: VerifyingKey) -> bool:
        """Whether the signature holds."""
        message = encode(HEAD_LABEL, (self.tenant_id, self.number, self.hash, self.at))
        return self.key_id == key.key_id and key.verifies(self.signature, message, CONTEXT)


_KINDS = {"tenant_id": str, "number": int, "hash": str, "at": int, "key_id": str, "signature": bytes}
_COLUMNS: list[sa.ColumnElement[Any]] = [sa.literal_column(name) for name in _KINDS]
_ROWS = sa.select(*_COLUMNS).select_from(sa.inspect(AuditHead).local_table)
"""As the database holds them, and not as their types would have them: somebody may have written anything."""


class HeadFiles:
    """The newest head of each tenant in a file of its own, named by the hash of the tenant's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, tenant_id: str) -> Head | None:
        """The tenant's head. Raises ValueError when its file holds none."""
        path = self._path(tenant_id)
        return _head_in(path) if path.exists() else None

    def all(self) -> Iterator[tuple[str, Head | None]]:
        """Every file's name and its head; None where it holds none."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield path.name, _head_in(path)
            except (ValueError, OSError):
                yield path.name, None

    def keep(self, head: Head) -> None:
        """Put a head in the place of the one before, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(head.as_json(), file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path(head.tenant_id))
        finally:
            Path(name).unlink(missing_ok=True)

    def _path(self, tenant_id: str) -> Path:
        return self.folder / f"{hashlib.sha256(tenant_id.encode()).hexdigest()[:32]}.json"


def _head_in(path: Path) -> Head:
    with path.open("rb") as file:
        return Head.of_json(file.read(MOST_FILE_BYTES))


def next_head(database: Database, files: HeadFiles, key: SigningKey, tenant_id: str) -> Head | str | None:
    """The head of a tenant's log as it is now; why it must not be signed; None when it is already."""
    try:
        kept = files.find(tenant_id)
    except ValueError:
        return "the file of its head is damaged"
    with database.read() as session:
        try:
            stored = head_in(session, tenant_id)
        except ValueError:
            return "its head in the database is damaged"
        known = [head for head in (stored, kept) if head is not None]
        newest = AuditEntries(session).newest(tenant_id)
        problem = _problem(session, tenant_id, key, known)
    if problem is not None or newest is None or [head.number for head in known] == [newest[0]] * 2:
        return problem
    return Head.sign(key, tenant_id, *newest)


def keep_heads(database: Database, files: HeadFiles, key: SigningKey, heads: list[Head]) -> str | None:
    """Store heads, and the head over all of them; when that must not be signed any more, why.

    They are on disk in the database before they are in files: after a power cut no file is ahead.
    """
    with database.write(durable=True) as session:
        problem = _problem_of_all(session, files, key)
        for head in heads:
            row = session.get(AuditHead, head.tenant_id)
            if row is None or row.number <= head.number:
                session.merge(AuditHead(**asdict(head)))
        session.flush()
        if problem is None:
            stored = [head for _, head in heads_in(session) if head is not None and head.tenant_id != ALL]
            every = Head.sign(key, ALL, *summary(stored))
            session.merge(AuditHead(**asdict(every)))
            heads = [*heads, every]
    for head in heads:
        files.keep(head)
    return problem


def heads_in(session: Session) -> Iterator[tuple[str, Head | None]]:
    """Every head in the database with its tenant, the one over all too; None for a row that holds none."""
    for row in session.execute(_ROWS).mappings():
        try:
            yield row["tenant_id"], Head.of_values({**row})
        except ValueError:
            yield str(row["tenant_id"]), None


def head_in(session: Session, tenant_id: str) -> Head | None:
    """The tenant's head in the database. Raises ValueError when its row holds none."""
    row = session.execute(_ROWS.where(col(AuditHead.tenant_id) == tenant_id)).mappings().one_or_none()
    return None if row is None else Head.of_values({**row})


def summary(heads: Iterable[Head]) -> tuple[int, str]:
    """What the head over all heads signs: how many entries they stand for, and their hash."""
    found = sorted((head.tenant_id, head.number, head.hash) for head in heads)
    content = encode(HEADS_LABEL, [value for triple in found for value in triple])
    return sum(number for _, number, _ in found), hashlib.sha256(content).hexdigest()


def problem_of_all(
    stored: Iterable[tuple[str, Head | None]], kept: Head | None, public: VerifyingKey
) -> str | None:
    """Why the head over all heads does not fit the heads that are stored, and its file; None when it does."""
    found = dict(stored)
    every = found.pop(ALL, None)
    if every is None:
        return "the head over all heads is gone" if found or kept is not None else None
    if not all(head.is_signed_by(public) and head.tenant_id == ALL for head in (every, kept or every)):
        return "the head over all heads was not signed by this workbench"
    if summary(head for head in found.values() if head is not None) != (every.number, every.hash):
        return "the heads are not those that were signed together: a whole log may be gone"
    if kept is not None and kept.number >= every.number and kept.hash != every.hash:
        return "the file of the head over all heads tells of more: an older database"
    return None


def _problem_of_all(session: Session, files: HeadFiles, key: SigningKey) -> str | None:
    try:
        return problem_of_all(heads_in(session), files.find(ALL), key.public)
    except (ValueError, SQLAlchemyError):
        return "a head is damaged"


def _problem(session: Session, tenant_id: str, key: SigningKey, known: list[Head]) -> str | None:
    """Why the log does not extend the heads that are known, through entries of ours; None when it does."""
    number, previous, secret = 0, GENESIS, sealing_secret(key)
    for head in known:
        if head.tenant_id != tenant_id or not head.is_signed_by(key.public):
            return "its head was not signed by this workbench"
        entry = session.get(AuditEntry, (tenant_id, head.number))
        if entry is None or entry.hash != head.hash:
            return f"entry {head.number} is gone or another one than was signed"
        number, previous = max((number, previous), (head.number, head.hash))
    columns = [getattr(AuditEntry, name) for name in (*FIELDS, "hash")]
    newer = sa.select(*columns).where(col(AuditEntry.tenant_id) == tenant_id, col(AuditEntry.number) > number)
    for row in session.execute(newer.order_by(col(AuditEntry.number))).mappings():
        entry_after: dict[str, Any] = {**row}
        number += 1
        follows = entry_after["number"] == number and entry_after["previous"] == previous
        ours = seal_of(secret, entry_after) == entry_after["seal"]
        if not (follows and ours and hash_of(entry_after) == entry_after["hash"]):
            return f"entry {number} was not written by this workbench"
        previous = entry_after["hash"]
    return None
