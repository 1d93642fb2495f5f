"""API keys: issued once, listed without their secret, revoked for good."""

from __future__ import annotations

import json
import uuid

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import tokens
from tg_workbench.errors import ApiKeyNotFound, IdempotencyConflict, InvalidRequest, PermissionDenied
from tg_workbench.identity.permissions import scopes_of
from tg_workbench.identity.principal import SCOPES, Principal
from tg_workbench.identity.tables import ApiKey, Membership, User
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

DAY_SECONDS = 86_400.0
_STANDING = Statement(
    sa.select(
        col(ApiKey.id),
        col(ApiKey.hash),
        col(ApiKey.principal_id),
        col(ApiKey.tenant_id),
        col(ApiKey.scopes),
        col(ApiKey.expires_at),
        sa.func.coalesce(col(ApiKey.revoked_at), col(Membership.ended_at), col(User.deactivated_at)).label(
            "ended_at"
        ),
        col(Membership.user_id),
        col(Membership.role),
        col(Membership.permissions),
    )
    .outerjoin(Membership, col(Membership.id) == col(ApiKey.principal_id))
    .outerjoin(User, col(User.id) == col(Membership.user_id))
    .where(col(ApiKey.hash) == sa.bindparam("hashed"))
)
"""A key and, unless it is the local principal's, the member behind it."""


class ApiKeys:
    """The API keys of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def issue(
        self,
        owner: Principal,
        name: str,
        scopes: list[str],
        *,
        expires_in_days: float | None = None,
        idempotency_key: str | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key of `owner` and its secret, which is never to be had again.

        A key and an application issue none: what they could give away would outlive them. Raises
        InvalidRequest, PermissionDenied, and IdempotencyConflict for a repeated `idempotency_key`.
        """
        if owner.key_id is not None or owner.client_id is not None:
            raise PermissionDenied(
                "an API key is issued by a person who is signed in, by no key or application"
            )
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise InvalidRequest(f"{len(unknown)} unknown scope(s); the scopes are {', '.join(SCOPES)}")
        if not scopes or not name.strip():
            raise InvalidRequest("an API key needs a name and at least one scope")
        if beyond := sorted(set(scopes) - owner.scopes):
            raise PermissionDenied(f"you cannot give away what you do not hold: {', '.join(beyond)}")
        if idempotency_key is not None and self._by_idempotency_key(owner, idempotency_key):
            raise IdempotencyConflict  # the first answer held a secret that nobody has any more
        secret = tokens.new_api_key()
        key = ApiKey(
            id=f"key-{uuid.uuid4()}",
            name=name.strip(),
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            scopes=[scope for scope in SCOPES if scope in scopes],
            hash=tokens.digest(secret),
            last_four=secret[-4:],
            idempotency_key=idempotency_key,
            expires_at=None if expires_in_days is None else now() + expires_in_days * DAY_SECONDS,
        )
        self.session.add(key)
        self.session.flush()
        return key, secret

    def list_page(self, owner: Principal, *, limit: int = 50, offset: int = 0) -> tuple[list[ApiKey], int]:
        """The owner's keys that were not revoked, newest first, and how many there are."""
        mine = (col(ApiKey.principal_id) == owner.id, col(ApiKey.revoked_at).is_(None))
        total = self.session.exec(select(sa.func.count()).select_from(ApiKey).where(*mine)).one()
        query = select(ApiKey).where(*mine).order_by(col(ApiKey.created_at).desc(), col(ApiKey.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def revoke(self, owner: Principal, key_id: str) -> None:
        """End a key now and for good. Raises ApiKeyNotFound, also when it is somebody else's."""
        key = self.session.get(ApiKey, key_id)
        if key is None or key.principal_id != owner.id or key.revoked_at is not None:
            raise ApiKeyNotFound
        key.revoked_at = now()
        self.session.add(key)
        self.session.flush()

    def principal_for(self, secret: str) -> Principal | None:
        """Whom a key stands for; None when it is unknown, expired or revoked, or its owner has left.

        It can do no more than its owner still may.
        """
        if not tokens.looks_like_api_key(secret):
            return None
        hashed = tokens.digest(secret)
        key = _STANDING.first(self.session, hashed=hashed)
        if key is None or not tokens.same(key.hash, hashed) or key.ended_at is not None:
            return None
        if key.expires_at is not None and key.expires_at <= now():
            return None
        scopes = frozenset(json.loads(key.scopes))
        if key.role is not None:
            scopes &= scopes_of(key.role, key.permissions)
        return Principal(key.principal_id, key.tenant_id, scopes, key.user_id, key_id=key.id)

    def _by_idempotency_key(self, owner: Principal, idempotency_key: str) -> ApiKey | None:
        query = select(ApiKey).where(
            ApiKey.principal_id == owner.id, ApiKey.idempotency_key == idempotency_key
        )
        return self.session.exec(query).first()
