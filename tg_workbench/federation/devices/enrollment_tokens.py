"""Enrolment tokens: each lets one device into one organisation, once, within a day.

A token is 256 random bits and stored as SHA-256. It is good for as long as whoever issued it could do so
again.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import tokens
from tg_workbench.errors import EnrollmentTokenExpired, EnrollmentTokenNotFound, QuotaExceeded
from tg_workbench.federation.devices.tables import EnrollmentToken
from tg_workbench.identity import LOCAL, Membership, Organizations, Principal, scopes_of
from tg_workbench.storage.database import now

PREFIX = "tok_"
HOURS, HOUR_SECONDS = 24.0, 3600.0
REMEMBERED_SECONDS = 90 * 86_400.0
"""How long it is known which device a token let in."""
MOST_OPEN = 10_000
"""How many of one organisation may wait for their device."""


class EnrollmentTokens:
    """The enrolment tokens of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def issue(
        self,
        asking: Principal,
        *,
        name: str | None = None,
        organization_id: str | None = None,
        expires_in_hours: float = HOURS,
    ) -> tuple[EnrollmentToken, str]:
        """A token for a device of the asker's organisation, and its secret, which is never to be had again.

        Raises OrganizationNotFound, and QuotaExceeded when too many are open.
        """
        meant = asking.meant(organization_id)
        if meant != asking.tenant_id:
            Organizations(self.session).get(asking, meant)
        open_ones = (col(EnrollmentToken.organization_id) == meant, *_open())
        if self._count(*open_ones) >= MOST_OPEN:
            raise QuotaExceeded("open enrollment tokens", MOST_OPEN)
        long_ago = col(EnrollmentToken.expires_at) < now() - REMEMBERED_SECONDS
        self.session.exec(sa.delete(EnrollmentToken).where(long_ago))
        secret = PREFIX + secrets.token_urlsafe(32)
        token = EnrollmentToken(
            id=f"enr_{secrets.token_hex(16)}",
            hash=tokens.digest(secret),
            last_four=secret[-4:],
            organization_id=meant,
            name=name,
            created_by=asking.id,
            expires_at=now() + expires_in_hours * HOUR_SECONDS,
        )
        self.session.add(token)
        self.session.flush()
        return token, secret

    def list_page(
        self, asking: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[EnrollmentToken], int]:
        """The open tokens of the asker's organisation, newest first, and how many there are."""
        mine = (*_readable(asking), *_open())
        newest_first = (col(EnrollmentToken.created_at).desc(), col(EnrollmentToken.id))
        query = select(EnrollmentToken).where(*mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), self._count(*mine)

    def revoke(self, asking: Principal, token_id: str) -> None:
        """Close a token that no device has used. Raises EnrollmentTokenNotFound."""
        mine = (*_readable(asking), *_open(), col(EnrollmentToken.id) == token_id)
        token = self.session.exec(select(EnrollmentToken).where(*mine)).one_or_none()
        if token is None:
            raise EnrollmentTokenNotFound
        token.revoked_at = now()
        self.session.add(token)
        self.session.flush()

    def take(self, secret: str, organization_id: str, device_id: str) -> EnrollmentToken:
        """Use a token up for a device. Raises EnrollmentTokenExpired.

        Whoever is first has it: the row changes only while nobody has used it, in the caller's transaction.
        """
        hashed = tokens.digest(secret)
        mine = (col(EnrollmentToken.hash) == hashed, col(EnrollmentToken.organization_id) == organization_id)
        using = sa.update(EnrollmentToken).where(*mine, *_open())
        used = self.session.exec(using.values(used_at=now(), device_id=device_id))
        if used.rowcount != 1:
            raise EnrollmentTokenExpired
        token = self.session.exec(select(EnrollmentToken).where(*mine)).one()
        if not tokens.same(token.hash, hashed) or not self._stands(token):
            raise EnrollmentTokenExpired
        return token

    def used_for(self, secret: str, organization_id: str) -> str | None:
        """The device that a token was used up for, while it would be good otherwise."""
        mine = (
            col(EnrollmentToken.hash) == tokens.digest(secret),
            col(EnrollmentToken.organization_id) == organization_id,
            col(EnrollmentToken.expires_at) > now(),
        )
        return self.session.exec(select(EnrollmentToken.device_id).where(*mine)).first()

    def _stands(self, token: EnrollmentToken) -> bool:
        """Whether who issued it is still there, and may still let devices in."""
        if token.created_by == LOCAL:
            return True
        place = self.session.get(Membership, token.created_by)
        return (
            place is not None
            and place.ended_at is None
            and place.organization_id in (token.organization_id, LOCAL)
            and "devices" in scopes_of(place.role, place.permissions)
        )

    def _count(self, *which: sa.ColumnElement[bool]) -> int:
        return self.session.exec(select(sa.func.count()).select_from(EnrollmentToken).where(*which)).one()


def _readable(asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
    return () if asking.is_operator else (col(EnrollmentToken.organization_id) == asking.tenant_id,)


def _open() -> tuple[sa.ColumnElement[bool], ...]:
    return (
        col(EnrollmentToken.used_at).is_(None),
        col(EnrollmentToken.revoked_at).is_(None),
        col(EnrollmentToken.expires_at) > now(),
    )
