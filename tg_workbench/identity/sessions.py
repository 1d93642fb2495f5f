"""Sessions: who is signed in, until when, and the refresh tokens that keep it so.

Access tokens are short and signed; that a session goes on is read from its row each time, so signing out,
leaving an organisation and losing a role are felt at once.

**Why** a refresh token may come twice where it need not rotate: one document's answer has no new refresh
token in it, so its clients send the first one for ever, and any client may lose an answer. A client that does
use the new one has shown that it rotates; whatever it had before is then a stolen token when it comes back,
and ends the session. Where rotation is asked for (OAuth, our own contract), the second use of any token does,
and a session for which it was asked once rotates from then on, at whatever door.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import tokens
from tg_workbench.crypto.access_tokens import AccessToken
from tg_workbench.errors import PermissionDenied, SessionNotFound
from tg_workbench.identity.permissions import scopes_of
from tg_workbench.identity.principal import SCOPES, Principal
from tg_workbench.identity.tables import Membership, OAuthCode, RefreshToken, User, UserSession
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

PREFIX = "tgr_"
LIFETIME_SECONDS = 30 * 86_400.0
_STANDING = Statement(
    sa.select(
        col(UserSession.scopes).label("ceiling"),
        col(UserSession.client_id),
        col(UserSession.expires_at),
        sa.func.coalesce(col(UserSession.ended_at), col(Membership.ended_at), col(User.deactivated_at)).label(
            "ended_at"
        ),
        col(Membership.id).label("membership_id"),
        col(Membership.user_id),
        col(Membership.organization_id),
        col(Membership.role),
        col(Membership.permissions),
    )
    .join(Membership, col(Membership.id) == col(UserSession.membership_id))
    .join(User, col(User.id) == col(Membership.user_id))
    .where(col(UserSession.id) == sa.bindparam("session_id"))
)
"""Three look-ups by primary key."""


class Sessions:
    """The living sessions of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def begin(
        self, place: Membership, *, scopes: str | None = None, client_id: str | None = None
    ) -> tuple[UserSession, str]:
        """A new session for a member, and its first refresh token."""
        opened = UserSession(
            id=f"ses-{uuid.uuid4()}",
            membership_id=place.id,
            client_id=client_id,
            scopes=scopes,
            expires_at=now() + LIFETIME_SECONDS,
        )
        self.session.add(opened)
        self.session.flush()
        return opened, self._issue(opened.id)

    def principal(self, session_id: str, ceiling: frozenset[str] = frozenset(SCOPES)) -> Principal | None:
        """Who is signed in with a session, and may do no more than `ceiling`; None when it ended."""
        standing: Any = _STANDING.first(self.session, session_id=session_id)
        if standing is None or standing.ended_at is not None or standing.expires_at <= now():
            return None
        scopes = scopes_of(standing.role, standing.permissions) & ceiling
        if standing.ceiling is not None:
            scopes &= frozenset(standing.ceiling.split())
        return Principal(
            id=standing.membership_id,
            tenant_id=standing.organization_id,
            scopes=scopes,
            user_id=standing.user_id,
            session_id=session_id,
            client_id=standing.client_id,
        )

    def principal_for(self, token: AccessToken) -> Principal | None:
        """Whom an access token stands for now; None when its session has ended or is another's."""
        found = self.principal(token.session_id, token.scopes)
        if found is None or (found.user_id, found.tenant_id) != (token.user_id, token.tenant_id):
            return None
        return found

    def refresh(
        self, secret: str, *, rotating: bool, client_id: str | None = None
    ) -> tuple[Principal, str] | None:
        """Who goes on, and their next refresh token; None when it is not good, and then its session may end.

        The caller commits either way: an ended session has to stay so.
        """
        token = self._find(secret)
        if token is None:
            return None
        opened = self.session.get_one(UserSession, token.session_id)
        if opened.client_id != client_id:
            return None
        if token.superseded_at is not None or ((rotating or opened.rotates) and token.used_at is not None):
            self._end(UserSession.id == token.session_id)
            return None
        principal = self.principal(token.session_id)
        if principal is None:
            return None
        opened.rotates = opened.rotates or rotating
        self.session.add(opened)
        self._supersede(token)
        return principal, self._issue(token.session_id)

    def list_page(
        self, asking: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[UserSession], int]:
        """The asker's living sessions, newest first, and how many there are. Raises PermissionDenied.

        An application sees its own.
        """
        _refuse_keys(asking)
        mine = self._readable(asking)
        total = self.session.exec(select(sa.func.count()).select_from(UserSession).where(*mine)).one()
        newest_first = (col(UserSession.created_at).desc(), col(UserSession.id))
        query = select(UserSession).where(*mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def end(self, asking: Principal, session_id: str) -> None:
        """Sign one of the asker's sessions out. Raises SessionNotFound, PermissionDenied."""
        _refuse_keys(asking)
        if asking.client_id is not None and asking.session_id != session_id:
            raise PermissionDenied("an application ends its own session and no other")
        if not self._end(*self._readable(asking), UserSession.id == session_id):
            raise SessionNotFound

    def end_everywhere(self, asking: Principal) -> int:
        """Sign the asker out everywhere; how many sessions that were. Raises PermissionDenied."""
        _refuse_keys(asking)
        if asking.client_id is not None:
            raise PermissionDenied("an application ends its own session and no other")
        return self.end_all(asking.user_id or "")

    def end_all(self, user_id: str, *, keep: str | None = None) -> int:
        """Sign a user out everywhere, but for `keep`; how many sessions that were.

        Codes that are on their way to applications end, too: a session would come of them.
        """
        codes = sa.update(OAuthCode).where(col(OAuthCode.membership_id).in_(_places_of(user_id)))
        self.session.exec(codes.values(expires_at=now()))
        return self._end(*_of_user(user_id), UserSession.id != (keep or ""))

    def end_with_token(self, secret: str, client_id: str) -> bool:
        """Sign out the application whose refresh token this is."""
        token = self._find(secret)
        if token is None:
            return False
        return self._end(UserSession.id == token.session_id, UserSession.client_id == client_id) == 1

    def end_by_id(self, session_id: str) -> None:
        """End a session, whosever it is: something of it has come into other hands."""
        self._end(UserSession.id == session_id)

    def behind(self, secret: str) -> UserSession | None:
        """The session that a refresh token would go on with, if it has not been used up."""
        token = self._find(secret)
        if token is None or token.superseded_at is not None or token.used_at is not None:
            return None
        return self.session.get(UserSession, token.session_id)

    def forget_ended(self, before: float) -> None:
        """Remove what ended before a time: nobody can use it, and nobody need know it."""
        old = sa.select(col(UserSession.id)).where(
            sa.func.coalesce(col(UserSession.ended_at), col(UserSession.expires_at)) < before
        )
        self.session.exec(sa.delete(RefreshToken).where(col(RefreshToken.session_id).in_(old)))
        self.session.exec(sa.delete(UserSession).where(col(UserSession.id).in_(old)))

    def _find(self, secret: str) -> RefreshToken | None:
        hashed = tokens.digest(secret)
        token = self.session.get(RefreshToken, hashed)
        return token if token is not None and tokens.same(token.hash, hashed) else None

    def _issue(self, session_id: str) -> str:
        secret = PREFIX + secrets.token_urlsafe(32)
        self.session.add(RefreshToken(hash=tokens.digest(secret), session_id=session_id))
        self.session.flush()
        return secret

    def _supersede(self, token: RefreshToken) -> None:
        """Every other token of the session is from before this one, or was given for it and not taken up."""
        others = sa.update(RefreshToken).where(
            col(RefreshToken.session_id) == token.session_id,
            col(RefreshToken.hash) != token.hash,
            col(RefreshToken.superseded_at).is_(None),
        )
        self.session.exec(others.values(superseded_at=now()))
        token.used_at = now()
        self.session.add(token)
        self.session.flush()

    def _end(self, *which: Any) -> int:
        ending = sa.update(UserSession).where(*which, col(UserSession.ended_at).is_(None))
        return self.session.exec(ending.values(ended_at=now())).rowcount

    def _readable(self, asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
        """Whose: the asker's own, living ones."""
        living = (col(UserSession.ended_at).is_(None), col(UserSession.expires_at) > now())
        its_own = () if asking.client_id is None else (col(UserSession.id) == asking.session_id,)
        return (*_of_user(asking.user_id or ""), *living, *its_own)


def _refuse_keys(asking: Principal) -> None:
    if asking.key_id is not None:
        raise PermissionDenied("an API key has no session, and neither lists nor ends those of a person")


def _of_user(user_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (col(UserSession.membership_id).in_(_places_of(user_id)),)


def _places_of(user_id: str) -> sa.Select[Any]:
    return sa.select(col(Membership.id)).where(col(Membership.user_id) == user_id)
