"""Authorization codes: good once, for a minute, for the application and the address they were made for.

A code that comes back was seen by somebody else: what it was exchanged for ends.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.crypto import tokens
from tg_workbench.identity.sessions import Sessions
from tg_workbench.identity.tables import Membership, OAuthClient, OAuthCode
from tg_workbench.storage.database import now

LIFETIME_SECONDS = 60.0
REMEMBERED_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What an application brings for its token."""

    code: str
    redirect_uri: str | None
    verifier: str | None


class OAuthCodes:
    """The codes that are on their way."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def issue(
        self, place: Membership, client: OAuthClient, *, redirect_uri: str, scope: str, challenge: str | None
    ) -> str:
        """A code for an application that a member has let in, to be sent to `redirect_uri`."""
        self.session.exec(sa.delete(OAuthCode).where(col(OAuthCode.expires_at) < now() - REMEMBERED_SECONDS))
        code = secrets.token_urlsafe(32)
        row = OAuthCode(
            hash=tokens.digest(code),
            client_id=client.id,
            membership_id=place.id,
            redirect_uri=redirect_uri,
            scope=scope,
            code_challenge=challenge,
            expires_at=now() + LIFETIME_SECONDS,
        )
        self.session.add(row)
        self.session.flush()
        return code

    def take(self, client: OAuthClient, brought: Exchange) -> OAuthCode | None:
        """Use a code up; None when it is not good, and then what it was good for may have ended.

        The caller commits either way, and says which session it was exchanged for.
        """
        row = self.session.get(OAuthCode, tokens.digest(brought.code))
        if row is None or row.client_id != client.id:
            return None
        if row.used_at is not None:
            if row.session_id is not None:
                Sessions(self.session).end_by_id(row.session_id)
            return None
        good = row.redirect_uri == brought.redirect_uri and _proves(brought.verifier, row.code_challenge)
        if not good or row.expires_at <= now():
            return None
        row.used_at = now()
        self.session.add(row)
        self.session.flush()
        return row


def _proves(verifier: str | None, challenge: str | None) -> bool:
    """Whether the application that asked is the one that comes (RFC 7636, S256)."""
    if verifier is None or challenge is None:
        return verifier is None and challenge is None
    digest = hashlib.sha256(verifier.encode("utf-8", "replace")).digest()
    return tokens.same(base64.urlsafe_b64encode(digest).decode().rstrip("="), challenge)
