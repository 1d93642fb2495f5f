"""Organisations: made, found by their members, and changed by their administrators."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import OrganizationNotFound, PermissionDenied
from tg_workbench.identity.memberships import Memberships
from tg_workbench.identity.principal import Principal
from tg_workbench.identity.tables import Membership, Organization


class Organizations:
    """The organisations of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def found(self, name: str, *, description: str | None = None, by: str | None = None) -> Organization:
        """A new organisation, which has no members yet."""
        organization = Organization(
            id=f"org_{secrets.token_hex(8)}", name=name.strip(), description=description, created_by=by
        )
        self.session.add(organization)
        self.session.flush()
        return organization

    def create(self, asking: Principal, name: str, description: str | None = None) -> Organization:
        """A new organisation, owned by the user who asks; the operator's has no owner until one is added."""
        organization = self.found(name, description=description, by=asking.id)
        if asking.user_id is not None:
            Memberships(self.session).add(asking.user_id, organization.id, "owner")
        return organization

    def get(self, asking: Principal, organization_id: str) -> Organization:
        """The organisation. Raises OrganizationNotFound, also when it is none of the asker's."""
        mine = (*self._readable(asking), col(Organization.id) == organization_id)
        found = self.session.exec(select(Organization).where(*mine)).one_or_none()
        if found is None:
            raise OrganizationNotFound
        return found

    def list_page(
        self, asking: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Organization], int]:
        """The organisations that the asker may see, newest first, and how many there are."""
        mine = self._readable(asking)
        total = self.session.exec(select(sa.func.count()).select_from(Organization).where(*mine)).one()
        newest_first = (col(Organization.created_at).desc(), col(Organization.id))
        query = select(Organization).where(*mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def change(
        self, asking: Principal, organization_id: str, *, name: str | None, description: str | None
    ) -> Organization:
        """Change what is given. Raises OrganizationNotFound; PermissionDenied unless one acts for it."""
        organization = self.get(asking, organization_id)
        if not asking.is_operator and asking.tenant_id != organization_id:
            raise PermissionDenied("sign in to that organization to change it")
        organization.name = organization.name if name is None else name.strip()
        organization.description = organization.description if description is None else description
        self.session.add(organization)
        self.session.flush()
        return organization

    def _readable(self, asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
        """Whose: those that the asker is a member of, as a person; a key's or application's is the one."""
        if asking.is_operator:
            return ()
        if not asking.is_person:
            return (col(Organization.id) == asking.tenant_id,)
        places = select(Membership.organization_id).where(
            Membership.user_id == asking.user_id, col(Membership.ended_at).is_(None)
        )
        return (col(Organization.id).in_(places),)
