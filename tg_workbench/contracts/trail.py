"""What a request leaves in the audit log, decided at the door: no route has to think of it.

Recorded is every request that may change something (any method but GET, unless its route is marked
`@asks_only`), and every GET whose route is marked `@audited`. The entry is written in the first transaction
that the request commits, so it is there exactly when the change is; without one it is written when the
request has ended, and a request that cannot be recorded fails. Probes, reads and what workers do leave none:
what a step has cost is in the ledger.

What changes rows of another tenant than the actor's is in that tenant's log too, under the same actor: what
the operator does in an organisation its own people see. Who tries passwords for somebody's account is in the
log of the account's first organisation; in ours the account is not named. What was refused, or failed, is
bounded (`security.audit.refusals`).

**Why every step over HTTP.** `forward_backward` and `optim_step` are recorded like everything else: an entry
costs 0.1 ms and 360 bytes, the log of operations beside it more, and a rule without exceptions is one that
nobody has to check.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from types import TracebackType
from typing import Any

import structlog
from sqlmodel import Session
from starlette.requests import Request

from tg_workbench.errors import PermissionDenied, RateLimited, Unauthenticated, WorkbenchError
from tg_workbench.federation.devices import origin_of
from tg_workbench.identity import LOCAL_PRINCIPAL, Organization, Principal
from tg_workbench.identity.gifts import gift_of
from tg_workbench.security import AuditLog, Deed, WrappedDataKey
from tg_workbench.security.audit.entries import PLAIN, Outcome
from tg_workbench.storage.database import after_commit, changed_in, is_passing_by, made_in

log = structlog.get_logger("tg_workbench.audit")
NOT_ALLOWED = (PermissionDenied, RateLimited, Unauthenticated)
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OBJECT_ID = re.compile(
    rf"(?:(?:tc|fut|art|ds|up|mdl|svc|job|key|inv|ses|upd|wh|whd|msg|alert|ntf)-)?{_UUID}|(?:app|mem|dev|enr|round|camp)_[0-9a-f]{{32}}"
    rf"|org_[0-9a-f]{{16}}|{LOCAL_PRINCIPAL.tenant_id}"
)
"""Every form of an id that this workbench gives. What else stands in its place may be a secret or a name."""
_REQUEST_ID = re.compile(rf"(?i:{_UUID}|req[_-](?:{_UUID}|[0-9a-f]{{32}}))")
_CURRENT: ContextVar[Trail | None] = ContextVar("tg_trail", default=None)


@dataclass(frozen=True, slots=True)
class Subject:
    """What all requests to a route have in common."""

    action: str
    kind: str | None
    parameter: str | None

    @classmethod
    def of(cls, action: str, path: str) -> Subject:
        """What a path is about: its last `{…_id}`; other parameters are not recorded."""
        segments = path.split("/")
        for place in range(len(segments) - 1, 0, -1):
            name = segments[place].strip("{}")
            if segments[place].startswith("{") and (name == "id" or name.endswith("_id")):
                stem = name.removesuffix("id").rstrip("_")
                singular = segments[place - 1].removesuffix("s")
                return cls(action, singular if stem in singular else stem, name)
        return cls(action, None, None)

    def id_in(self, values: Mapping[str, Any]) -> str | None:
        """The id in a request's path, if it has the form of one of ours."""
        if self.parameter is None:
            return None
        given = str(values.get(self.parameter, ""))
        return given if _OBJECT_ID.fullmatch(given) else None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, as an entry says it."""

    tenant_id: str
    id: str | None
    kind: str
    credential_id: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> Actor:
        """A principal: the user if it is one's, and the key, session or certificate they came with."""
        shown = principal.key_id or principal.session_id
        kind = "api_key" if principal.key_id else "application" if principal.client_id else "user"
        kind = "device" if principal.is_device else kind
        return cls(principal.tenant_id, principal.user_id or principal.id, kind, shown)


NOBODY = Actor(LOCAL_PRINCIPAL.tenant_id, None, "unknown")
"""What nobody is known to have done is in the local tenant's log, which the operator reads."""


class Trail:
    """The entry of one request, until it is written. A context manager around all that the request does."""

    def __init__(self, audit: AuditLog, subject: Subject, request: Request, request_id: str) -> None:
        self.audit = audit
        self.action = subject.action
        self.object_kind = subject.kind
        self.object_id = subject.id_in(request.path_params)
        self.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else None
        self.address = _address(request.client.host if request.client else "")
        self.actor: Actor | None = None  # until it is known, nothing is written with what is committed
        self.is_written = False
        self.aim: tuple[str, str] | None = None  # a tenant, and the user whose password is tried
        self.gift: str | None = None
        self.status = 200

    def __enter__(self) -> Trail:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._token)
        if self.is_written:
            return
        self.is_written = True
        if self.aim is not None and self.actor is None:
            tenant_id, user_id = self.aim
            tried = self.deed("refused", error)
            tried = replace(tried, tenant_id=tenant_id, object_kind="user", object_id=user_id)
            self.audit.note_soon(tried)
        if error is None and self.status < 400:
            write = self.audit.note_some if self.actor is None else self.audit.note
            write(self.deed("done"))
        else:
            self._try(self.deed("refused" if isinstance(error, NOT_ALLOWED) else "failed", error))

    def write(self, session: Session) -> None:
        """Write the entry with what `session` is about to commit."""
        new = (row for row in made_in(session) if not isinstance(row, WrappedDataKey))  # made in passing
        made = None if self.object_id is not None else next(new, None)
        if made is not None and isinstance(getattr(made, "id", None), str):
            self.object_kind, self.object_id = made.__tablename__.removesuffix("s"), _plain(made.id)
        rows = [*made_in(session), *changed_in(session)]
        self.gift = gift_of(rows) or origin_of(rows)
        deed = self.deed("done")
        for tenant_id in {deed.tenant_id: None} | dict.fromkeys(filter(None, map(_tenant_of, rows))):
            self.audit.record(session, replace(deed, tenant_id=tenant_id))
        after_commit(session, self._is_stored)

    def deed(self, outcome: Outcome, error: BaseException | None = None) -> Deed:
        """What the entry says."""
        actor = self.actor or NOBODY
        return Deed(
            tenant_id=actor.tenant_id,
            action=self.action,
            outcome=outcome,
            actor_kind=actor.kind,
            actor_id=actor.id,
            credential_id=actor.credential_id,
            object_kind=self.object_kind,
            object_id=self.object_id,
            reason=self.gift if error is None else type(error).__name__,
            request_id=self.request_id,
            address=self.address,
        )

    def _is_stored(self) -> None:
        self.is_written = True

    def _try(self, deed: Deed) -> None:
        """The caller gets the error there was; that it left no entry is in the log."""
        try:
            self.audit.note_some(deed)
        except WorkbenchError as failure:
            log.error("audit entry lost", action=self.action, reason=type(failure).__name__)


def acts(actor: Actor) -> None:
    """Behind a `@public` door: say who it turned out to be, before what they did is committed."""
    trail = _CURRENT.get()
    if trail is not None:
        trail.actor = actor


def aims(tenant_id: str, user_id: str) -> None:
    """Behind a `@public` door: say whose password is tried, in case it is not theirs who try."""
    trail = _CURRENT.get()
    if trail is not None:
        trail.aim = tenant_id, user_id


def write_trail(session: Session) -> None:
    """Called by the database before each commit: the entry of the request that commits, if it needs one."""
    trail = _CURRENT.get()
    if trail is None or trail.actor is None or is_passing_by(session):
        return
    if not trail.is_written:
        trail.write(session)


def _tenant_of(row: Any) -> str | None:
    """Whose a row is, if it is a tenant's."""
    if isinstance(row, Organization):
        return row.id
    tenant_id: str | None = getattr(row, "organization_id", None) or getattr(row, "tenant_id", None)
    return tenant_id


def _plain(text: str) -> str | None:
    """The id of a row of ours as it is; what is none is not repeated."""
    return text if PLAIN.fullmatch(text) else None


@lru_cache(maxsize=1024)
def _address(host: str) -> str | None:
    """Who is at the other end of the connection; nobody in particular on a Unix socket."""
    try:
        return ipaddress.ip_address(host).exploded.partition("%")[0]
    except ValueError:
        return None
