"""Invitations: a place in an organisation for whoever brings the token, once and within a week.

An invitation is good for as long as whoever made it could make it again.
"""

from __future__ import annotations

import secrets
import uuid

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import tokens
from tg_workbench.errors import InvitationInvalid, InvitationNotFound, PermissionDenied
from tg_workbench.identity.organizations import Organizations
from tg_workbench.identity.permissions import ROLES, check_gift, scopes_of
from tg_workbench.identity.principal import LOCAL, Principal
from tg_workbench.identity.tables import Invitation, Membership
from tg_workbench.storage.database import now

PREFIX = "tgi_"
HOUR_SECONDS = 3600.0


class Invitations:
    """The open invitations of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def invite(
        self,
        asking: Principal,
        role: str,
        *,
        organization_id: str | None = None,
        expires_in_hours: float = 168.0,
    ) -> tuple[Invitation, str]:
        """An invitation into the asker's organisation, and its token, which is never to be had again.

        Raises InvalidRequest, PermissionDenied, OrganizationNotFound.
        """
        check_gift(asking, role, None)
        if role == "owner" and not asking.is_operator:
            raise PermissionDenied("invite them as admin; an owner can make them an owner later")
        organization = Organizations(self.session).get(asking, asking.meant(organization_id))
        token = PREFIX + secrets.token_urlsafe(32)
        invitation = Invitation(
            id=f"inv-{uuid.uuid4()}",
            hash=tokens.digest(token),
            organization_id=organization.id,
            role=role,
            created_by=asking.id,
            expires_at=now() + expires_in_hours * HOUR_SECONDS,
        )
        self.session.add(invitation)
        self.session.flush()
        return invitation, token

    def look_at(self, token: str) -> Invitation:
        """An invitation that is good. Raises InvitationInvalid."""
        hashed = tokens.digest(token)
        query = select(Invitation).where(Invitation.hash == hashed, *_open())
        invitation = self.session.exec(query).one_or_none()
        if invitation is None or not tokens.same(invitation.hash, hashed) or not self._stands(invitation):
            raise InvitationInvalid
        return invitation

    def accept(self, token: str) -> Invitation:
        """Use an invitation up. Raises InvitationInvalid."""
        invitation = self.look_at(token)
        invitation.ended_at = now()
        self.session.add(invitation)
        self.session.flush()
        return invitation

    def list_page(
        self, asking: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Invitation], int]:
        """The open invitations that the asker may see, newest first, and how many there are."""
        mine = (*self._readable(asking), *_open())
        total = self.session.exec(select(sa.func.count()).select_from(Invitation).where(*mine)).one()
        newest_first = (col(Invitation.created_at).desc(), col(Invitation.id))
        query = select(Invitation).where(*mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def withdraw(self, asking: Principal, invitation_id: str) -> None:
        """Close an invitation that nobody has used. Raises InvitationNotFound."""
        mine = (*self._readable(asking), *_open(), col(Invitation.id) == invitation_id)
        invitation = self.session.exec(select(Invitation).where(*mine)).one_or_none()
        if invitation is None:
            raise InvitationNotFound
        invitation.ended_at = now()
        self.session.add(invitation)
        self.session.flush()

    def end_all(self, organization_id: str) -> None:
        """Close every invitation into an organisation: the last who belonged to it has left."""
        mine = sa.update(Invitation).where(col(Invitation.organization_id) == organization_id, *_open())
        self.session.exec(mine.values(ended_at=now()))

    def _stands(self, invitation: Invitation) -> bool:
        """Whether who made it is still there, and may still give this role."""
        if invitation.created_by == LOCAL:
            return True
        place = self.session.get(Membership, invitation.created_by)
        if place is None or place.ended_at is not None:
            return False
        is_theirs = place.organization_id in (invitation.organization_id, LOCAL)
        return is_theirs and ROLES[invitation.role] | {"admin"} <= scopes_of(place.role, place.permissions)

    def _readable(self, asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
        return () if asking.is_operator else (col(Invitation.organization_id) == asking.tenant_id,)


def _open() -> tuple[sa.ColumnElement[bool], ...]:
    return (col(Invitation.ended_at).is_(None), col(Invitation.expires_at) > now())
