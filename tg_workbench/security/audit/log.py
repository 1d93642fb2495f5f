"""The audit log of one process: what is recorded, sealed with the workbench's key, and signed soon after.

`record` is for a change and its entry in one transaction, `note` for what has no transaction, `note_some` for
what anybody may do to us without end, `note_soon` for what nobody may notice by the time it takes. `settle`
writes what waits and signs what is new, and is called once a second and at the end.

Pitfalls: an entry that cannot be written is an error like any other, so what must be recorded fails with it.
"""

from __future__ import annotations

import sqlite3
import threading
from functools import cached_property
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.errors import WorkbenchError
from tg_workbench.security.audit.entries import WORKBENCH, AuditEntries, Deed, sealing_secret
from tg_workbench.security.audit.heads import ALL, Head, HeadFiles, keep_heads, next_head
from tg_workbench.security.audit.refusals import Refusals
from tg_workbench.storage import Database
from tg_workbench.storage.database import after_commit

log = structlog.get_logger("tg_workbench.audit")
HEADS = Path("audit") / "heads"
"""Where in the home folder the newest heads lie."""
UNREADABLE = (
    SQLAlchemyError,
    sqlite3.Error,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What comes of rows that somebody else has written."""


class AuditLog:
    """The log of a workbench, for a process that writes to it."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database = database
        self.home = home
        self.files = HeadFiles(home / HEADS)
        self.refusals = Refusals()
        self._unsigned: set[str] = set()
        self._waiting: list[Deed] = []
        self._lock = threading.Lock()
        self._broken: dict[str, str] = {}

    @cached_property
    def key(self) -> SigningKey:
        """The signing key, made at first use. Raises SigningKeyUnreadable, SignaturesUnavailable."""
        return SigningKey.open(self.home)

    @cached_property
    def secret(self) -> bytes:
        """What entries are sealed with."""
        return sealing_secret(self.key)

    @property
    def broken(self) -> dict[str, str]:
        """Whose heads cannot be signed any more, because the log is not as it was, and why.

        The head over all heads is the workbench's own.
        """
        with self._lock:
            found = dict(self._broken)
        over_all = found.pop(ALL, None)
        return found if over_all is None else {WORKBENCH: over_all, **found}

    def open(self) -> None:
        """Have the key ready, and sign what another process has left unsigned."""
        if self.secret:
            try:
                with self.database.read() as session:
                    tenants = AuditEntries(session).tenants()
            except SQLAlchemyError:
                self._found(ALL, "a tenant's id cannot be read")
                tenants = []
            with self._lock:
                self._unsigned.update(tenant_id for tenant_id in tenants if isinstance(tenant_id, str))
        self.settle()

    def record(self, session: Session, deed: Deed) -> None:
        """Write an entry in the transaction of what it tells of."""
        AuditEntries(session).append(deed, self.secret)
        after_commit(session, lambda: self._is_new(deed.tenant_id))

    def note(self, deed: Deed) -> None:
        """Write an entry in a transaction of its own."""
        with self.database.write() as session:
            self.record(session, deed)

    def note_some(self, deed: Deed) -> None:
        """Write an entry about what led to nothing, unless there are too many: then count it."""
        if self.refusals.admit(deed):
            self.note(deed)

    def note_soon(self, deed: Deed) -> None:
        """The same, a second later: that there is something to write takes the caller no time."""
        if self.refusals.admit(deed):
            with self._lock:
                self._waiting.append(deed)

    def settle(self, *, closing: bool = False) -> None:
        """Write what waits, tell of what was counted, and sign the heads of the logs that have grown."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for deed in (*waiting, *self.refusals.over(now=closing)):
            self._note_or_keep(deed)
        with self._lock:
            tenants, self._unsigned = self._unsigned, set()
        if not tenants:
            return
        heads = [head for tenant_id in sorted(tenants) if (head := self._next_head(tenant_id)) is not None]
        try:
            problem = keep_heads(self.database, self.files, self.key, heads)
        except BaseException:
            for tenant_id in tenants:
                self._is_new(tenant_id)
            raise
        self._found(ALL, problem)

    def _note_or_keep(self, deed: Deed) -> None:
        try:
            self.note(deed)
        except (WorkbenchError, OSError):
            with self._lock:
                self._waiting.append(deed)
        except UNREADABLE as failure:  # one tenant's log must not stand in the others' way
            log.error("audit entry lost", action=deed.action, reason=type(failure).__name__)

    def _next_head(self, tenant_id: str) -> Head | None:
        """A tenant's new head, if there is one to keep. What fails for one tenant stops no other."""
        try:
            found = next_head(self.database, self.files, self.key, tenant_id)
        except (WorkbenchError, OSError) as failure:
            self._is_new(tenant_id)  # it may go well a second later
            log.error("audit log not signed", tenant_id=tenant_id, reason=type(failure).__name__)
            return None
        except UNREADABLE as failure:
            found = f"it cannot be read: {type(failure).__name__}"
        self._found(tenant_id, found if isinstance(found, str) else None)
        return found if isinstance(found, Head) else None

    def _found(self, tenant_id: str, problem: str | None) -> None:
        with self._lock:
            known = self._broken.pop(tenant_id, None)
            if problem is not None:
                self._broken[tenant_id] = problem
        if problem is not None and problem != known:
            log.error("audit log broken", tenant_id=tenant_id, problem=problem)

    def _is_new(self, tenant_id: str) -> None:
        with self._lock:
            self._unsigned.add(tenant_id)
