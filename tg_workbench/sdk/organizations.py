"""Organisations: who works together, and who is invited to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.users import User, Users, user_id_of
from tg_workbench.sdk.values import Value

ORGANIZATIONS, INVITATIONS = "/api/v1/organizations", "/workbench/v1/invitations"


@dataclass(frozen=True, slots=True)
class Organization(Value):
    """People who work together. What one made for another organisation is not seen here."""

    id: str
    name: str = ""
    description: str | None = None
    member_count: int = 0
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class Invitation(Value):
    """A way in, good once. `invitation_token` is told when it is made, and never shown by `repr`."""

    invitation_id: str
    organization_id: str = ""
    role: str = "member"
    created_at: str | None = None
    expires_at: str | None = None
    invitation_token: str | None = field(default=None, repr=False)


class Organizations:
    """The organisations that you belong to. You act for one: that of your session or your key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, *, description: str | None = None) -> Organization:
        """Make one, which you will own; `wb.login(…, organization_id=….id)` acts for it."""
        return Organization.from_wire(self._connection.post(ORGANIZATIONS, _named(name, description)))

    def list(self, *, page: int = 1, size: int = 50) -> list[Organization]:
        """A page of them, newest first."""
        answer = self._connection.get(ORGANIZATIONS, {"page": page, "size": size})
        return [Organization.from_wire(item) for item in answer.get("organizations", [])]

    def get(self, organization: Organization | str) -> Organization:
        """One as it is now. Raises NotFound."""
        return Organization.from_wire(self._connection.get(_path(organization)))

    def update(
        self, organization: Organization | str, *, name: str | None = None, description: str | None = None
    ) -> Organization:
        """Change what is named, of the one you act for."""
        body = _named(name, description)
        return Organization.from_wire(self._connection.put(_path(organization), body))

    def invite(
        self,
        role: str = "member",
        *,
        organization: Organization | str | None = None,
        expires_in_hours: float = 168.0,
    ) -> Invitation:
        """Invite somebody into yours: give them `.invitation_token` now, it is not told again.

        The workbench's own key may name any organisation. Raises PermissionDenied.
        """
        asked = {"role": role, "expires_in_hours": expires_in_hours}
        if organization is not None:
            asked["organization_id"] = _id_of(organization)
        return Invitation.from_wire(self._connection.post(INVITATIONS, Body.of_json(asked)))

    def invitations(self, *, limit: int = 50, offset: int = 0) -> Sequence[Invitation]:
        """A page of open invitations, newest first, without their tokens."""
        answer = self._connection.get(INVITATIONS, {"limit": limit, "offset": offset})
        return [Invitation.from_wire(item) for item in answer.get("invitations", [])]

    def withdraw(self, invitation: Invitation | str) -> None:
        """Take back an invitation that nobody has used. Raises NotFound."""
        which = invitation.invitation_id if isinstance(invitation, Invitation) else invitation
        self._connection.delete(f"{INVITATIONS}/{which}")

    def members(self, *, page: int = 1, size: int = 50) -> Sequence[User]:
        """A page of the people of yours, with their roles, newest first."""
        return Users(self._connection).list(page=page, size=size)

    def remove(self, user: User | str) -> None:
        """Take a member's place away: their sessions end and their keys are revoked, at once.

        Raises NotFound, PermissionDenied, and Refused for the last owner.
        """
        self._connection.delete(f"/workbench/v1/members/{user_id_of(user)}")


def _named(name: str | None, description: str | None) -> Body:
    asked = {"name": name, "description": description}
    return Body.of_json({member: value for member, value in asked.items() if value is not None})


def _id_of(organization: Organization | str) -> str:
    return organization.id if isinstance(organization, Organization) else organization


def _path(organization: Organization | str) -> str:
    return f"{ORGANIZATIONS}/{_id_of(organization)}"
