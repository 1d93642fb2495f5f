"""Memberships: who belongs to which organisation, and what they may do there."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import InvalidRequest, LastOwner, PermissionDenied, UserNotFound
from tg_workbench.identity.permissions import ROLES, check_gift, written
from tg_workbench.identity.principal import Principal
from tg_workbench.identity.tables import ApiKey, Invitation, Membership, OAuthCode, User, UserSession
from tg_workbench.storage.database import now


class Memberships:
    """The places that people hold in organisations."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, user_id: str, organization_id: str, role: str) -> Membership:
        """A place for a user; one who had left gets the old place back, and with it what is in it."""
        place = self.find(user_id, organization_id, even_ended=True)
        if place is None:
            place = Membership(
                id=f"mem_{uuid.uuid4().hex}", user_id=user_id, organization_id=organization_id, role=role
            )
        place.role, place.permissions, place.ended_at = role, None, None
        self.session.add(place)
        self.session.flush()
        return place

    def find(
        self, user_id: str, organization_id: str | None = None, *, even_ended: bool = False
    ) -> Membership | None:
        """A user's place in an organisation; without one named, the first that they got."""
        query = select(Membership).where(Membership.user_id == user_id)
        if organization_id is not None:
            query = query.where(Membership.organization_id == organization_id)
        if not even_ended:
            query = query.where(col(Membership.ended_at).is_(None))
        return self.session.exec(query.order_by(col(Membership.created_at), col(Membership.id))).first()

    def of_user(self, user_id: str) -> list[Membership]:
        """Every place that a user holds, the first one first."""
        query = select(Membership).where(Membership.user_id == user_id, col(Membership.ended_at).is_(None))
        return list(self.session.exec(query.order_by(col(Membership.created_at), col(Membership.id))))

    def count(self, organization_id: str) -> int:
        """How many people belong to an organisation."""
        query = select(sa.func.count()).select_from(Membership)
        return self.session.exec(query.where(*_living(organization_id))).one()

    def administrators(self, organization_id: str, most: int) -> list[str]:
        """The places of those who look after an organisation, the first ones first."""
        query = select(Membership.id).where(
            *_living(organization_id), col(Membership.role).in_(("owner", "admin"))
        )
        query = query.order_by(col(Membership.created_at), col(Membership.id))
        return list(self.session.exec(query.limit(most)))

    def address_of(self, membership_id: str) -> str | None:
        """Where somebody gets e-mail; None once they have left, and for what is no person."""
        query = (
            select(User.email)
            .join(Membership, col(Membership.user_id) == col(User.id))
            .where(Membership.id == membership_id, col(Membership.ended_at).is_(None))
        )
        return self.session.exec(query.where(col(User.deactivated_at).is_(None))).first()

    def is_last_owner(self, place: Membership) -> bool:
        """Whether nobody else owns the organisation."""
        query = select(sa.func.count()).select_from(Membership)
        query = query.where(*_living(place.organization_id), col(Membership.id) != place.id)
        others = self.session.exec(query.where(col(Membership.role) == "owner")).one()
        return place.role == "owner" and others == 0

    def permit(
        self, asking: Principal, place: Membership, role: str | None, permissions: frozenset[str] | None
    ) -> Membership:
        """Give a member another role, or scopes by name instead of the role's.

        Raises InvalidRequest, PermissionDenied and LastOwner.
        """
        role = role or place.role
        check_gift(asking, role, permissions)
        if role == "owner" and permissions is not None and not permissions >= ROLES["owner"]:
            raise InvalidRequest("an owner holds everything an owner may do: choose another role instead")
        self._check_owners(asking, place, becomes=role)
        place.role = role
        place.permissions = None if permissions is None else written(permissions)
        self.session.add(place)
        self.session.flush()
        return place

    def end(self, asking: Principal, place: Membership) -> None:
        """Take a member's place away; what they made stays in it. Raises PermissionDenied, LastOwner."""
        self._check_owners(asking, place, becomes=None)
        self.close(place)

    def close(self, place: Membership) -> None:
        """End a place with what came of it, which coming back does not bring back.

        That is its sessions, its API keys, the codes on their way to applications, and the invitations.
        """
        place.ended_at = now()
        self.session.add(place)
        self.session.flush()
        sessions = sa.update(UserSession).where(
            col(UserSession.membership_id) == place.id, col(UserSession.ended_at).is_(None)
        )
        keys = sa.update(ApiKey).where(col(ApiKey.principal_id) == place.id, col(ApiKey.revoked_at).is_(None))
        self.session.exec(sessions.values(ended_at=place.ended_at))
        codes = sa.update(OAuthCode).where(col(OAuthCode.membership_id) == place.id)
        invitations = sa.update(Invitation).where(
            col(Invitation.created_by) == place.id, col(Invitation.ended_at).is_(None)
        )
        self.session.exec(keys.values(revoked_at=place.ended_at))
        self.session.exec(codes.values(expires_at=place.ended_at))
        self.session.exec(invitations.values(ended_at=place.ended_at))

    def seen_by(self, asking: Principal, user_id: str) -> Membership | None:
        """A user's place, where the asker sees them: in the organisation that it acts for."""
        return self.find(user_id, None if asking.is_operator else asking.tenant_id)

    def of_member(self, asking: Principal, user_id: str, organization_id: str | None = None) -> Membership:
        """A user's place in the asker's organisation, or in one that the operator names.

        Raises UserNotFound, OrganizationNotFound.
        """
        if organization_id is None:
            place = self.seen_by(asking, user_id)
        else:
            place = self.find(user_id, asking.meant(organization_id))
        if place is None:
            raise UserNotFound
        return place

    def _check_owners(self, asking: Principal, place: Membership, *, becomes: str | None) -> None:
        """Owners are made and unmade by owners and the operator, and one is always left."""
        if "owner" not in (place.role, becomes) or place.role == becomes:
            return
        mine = None if asking.user_id is None else self.find(asking.user_id, place.organization_id)
        if not asking.is_operator and (mine is None or mine.role != "owner"):
            raise PermissionDenied("only an owner makes and unmakes owners")
        if becomes != "owner" and self.is_last_owner(place):
            raise LastOwner


def _living(organization_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (col(Membership.organization_id) == organization_id, col(Membership.ended_at).is_(None))
