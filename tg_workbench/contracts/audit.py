"""The audit log as two contracts ask for it, and show it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator

from tg_workbench.contracts.providers import AnyId, Transaction
from tg_workbench.contracts.tg_tinker.views import iso
from tg_workbench.security import AuditEntries, AuditEntry, AuditQuery

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")


def _written_out(text: Any) -> Any:
    """A number would be taken for seconds, and a day for its first moment."""
    if not isinstance(text, str) or not _ISO.fullmatch(text):
        raise ValueError("write the time out, as 2026-01-31T12:00:00Z")
    return text


Moment = Annotated[
    datetime,
    BeforeValidator(_written_out),
    Query(description="A time, ISO 8601; UTC unless it says otherwise."),
]


class AuditEntryView(BaseModel):
    """One entry of the audit log, with what chains it: see `tg-workbench audit export`."""

    number: int
    at: str
    actor: str | None
    actor_kind: str
    credential_id: str | None
    action: str
    object_kind: str | None
    object_id: str | None
    outcome: Literal["done", "failed", "refused"]
    reason: str | None
    count: int
    request_id: str | None
    address: str | None
    previous: str
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditEntryView:
        """An entry of the room."""
        told = entry.model_dump(exclude={"tenant_id", "at", "actor_id", "seal"})
        return cls(**told, at=iso(entry.at / 1_000_000), actor=entry.actor_id)


async def _entries(session: Transaction) -> AuditEntries:
    return AuditEntries(session)


async def _query(
    actor: AnyId = None,
    action: Annotated[str | None, Query(pattern=r"^[a-z_.]{1,128}$")] = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> AuditQuery:
    return AuditQuery(actor_id=actor, action=action, since=_seconds(since), until=_seconds(until))


AuditRoom = Annotated[AuditEntries, Depends(_entries, scope="function")]
AskedAudit = Annotated[AuditQuery, Depends(_query)]
"""Which entries a request asks for."""


def _seconds(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
