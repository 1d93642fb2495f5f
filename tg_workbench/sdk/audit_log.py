"""The audit log: who did what. Not to be taken for `wb.audit`, which attacks a model."""

from __future__ import annotations

from dataclasses import dataclass

from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.moments import Moment, as_iso
from tg_workbench.sdk.values import Value


@dataclass(frozen=True, slots=True)
class AuditEntry(Value):
    """One thing that somebody did, or tried to; `previous` and `hash` chain it to the one before."""

    number: int
    at: str = ""
    actor: str | None = None
    actor_kind: str = ""
    credential_id: str | None = None
    action: str = ""
    object_kind: str | None = None
    object_id: str | None = None
    outcome: str = "done"
    """done, failed or refused."""
    reason: str | None = None
    count: int = 1
    request_id: str | None = None
    address: str | None = None
    previous: str = ""
    hash: str = ""

    def __str__(self) -> str:
        """One line: when, who, what, and how it went."""
        about = f" {self.object_id}" if self.object_id else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.number} {self.at} {self.actor or 'nobody'} {self.action}{about}: {self.outcome}{why}"


class AuditLog:
    """The audit log of your organisation. Nothing changes or removes an entry; reading leaves one, too."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[AuditEntry]:
        """A page of the entries that fit, newest first. `action` is whole: `workbench.register_dataset`.

        Raises PermissionDenied without the scope `audit`.
        """
        asked = {"actor": actor, "action": action, "since": as_iso(since), "until": as_iso(until)}
        page = {"limit": limit, "offset": offset}
        answer = self._connection.get("/workbench/v1/audit", asked | page)
        return [AuditEntry.from_wire(item) for item in answer.get("entries", [])]
