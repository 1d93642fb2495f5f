"""Signed heads: how many entries a tenant's log has and the hash of the last one, under the workbench's key.

The newest head of each tenant is in the database and in a file beside it, so a database that is put back from
an older copy is noticed. A head is only ever signed when it extends every head signed before, through entries
that this workbench has sealed: it never vouches for what somebody else has written into the database.

Pitfalls: after a backup was put back on purpose, the files still tell of the entries that are gone, and
nothing is signed until somebody has moved them away. Keep them: they prove what was lost.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.security.audit import AuditEntries, microseconds, sealing_secret
from tg_workbench.security.audit_chain import FIELDS, GENESIS, HEAD_LABEL, encode, hash_of, seal_of
from tg_workbench.security.tables import AuditEntry, AuditHead
from tg_workbench.storage import Database
from tg_workbench.storage.database import now

CONTEXT = b"tg-audit-head-1"
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
    def of_json(cls, text: bytes) -> Head:
        """The head in a file. Raises ValueError."""
        try:
            values = json.loads(text)
            return cls(**{**values, "signature": base64.b64decode(values["signature"], validate=True)})
        except (KeyError, TypeError) as failure:
            raise ValueError("not a signed head") from failure

    def as_json(self) -> dict[str, Any]:
        """The head as files and exports hold it."""
        return {**asdict(self), "signature": base64.b64encode(self.signature).decode()}

    def is_signed_by(self, key: VerifyingKey) -> bool:
        """Whether the signature holds."""
        try:
            message = encode(HEAD_LABEL, (self.tenant_id, self.number, self.hash, self.at))
        except TypeError:
            return False
        if not isinstance(self.signature, bytes):
            return False
        return self.key_id == key.key_id and key.verifies(self.signature, message, CONTEXT)


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
            except ValueError:
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


def sign_head(database: Database, files: HeadFiles, key: SigningKey, tenant_id: str) -> str | None:
    """Sign the head of a tenant's log as it is now. When that must not be done, why.

    The head is on disk in the database before it is in the file: after a power cut the file is never ahead.
    """
    try:
        kept = files.find(tenant_id)
    except ValueError:
        return "the file of its head is damaged"
    with database.read() as session:
        stored = head_in(session, tenant_id)
        known = [head for head in (stored, kept) if head is not None]
        newest = AuditEntries(session).newest(tenant_id)
        problem = _problem(session, tenant_id, key, known)
    if problem is not None or newest is None or [head.number for head in known] == [newest[0]] * 2:
        return problem
    head = Head.sign(key, tenant_id, *newest)
    with database.write(durable=True) as session:
        row = session.get(AuditHead, tenant_id)
        if row is None or row.number <= head.number:
            session.merge(AuditHead(**asdict(head)))
    files.keep(head)
    return None


def head_in(session: Session, tenant_id: str) -> Head | None:
    """The tenant's head in the database."""
    row = session.get(AuditHead, tenant_id)
    return None if row is None else Head(**row.model_dump())


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
