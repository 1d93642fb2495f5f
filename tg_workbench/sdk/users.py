"""Users: the people of your organisation, and what each may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.values import Value

USERS = "/api/v1/users"


@dataclass(frozen=True, slots=True)
class User(Value):
    """A person, and their place in the organisation through which you see them."""

    id: str
    username: str = ""
    email: str = ""
    full_name: str | None = None
    status: str = "active"
    organization_id: str | None = None
    role: str | None = None
    """owner, admin, member or viewer."""
    permissions: Sequence[str] = ()
    created_at: str | None = None


class Users:
    """The users of your organisation; the workbench's own key sees those of every one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        username: str,
        email: str,
        password: str,
        *,
        role: str = "member",
        full_name: str | None = None,
        organization_id: str | None = None,
    ) -> User:
        """Make an account in your organisation. Raises AlreadyExists, InvalidRequest, PermissionDenied."""
        asked = {
            "username": username,
            "email": email,
            "password": password,
            "role": role,
            "full_name": full_name,
            "organization_id": organization_id,
        }
        body = Body.of_json({name: value for name, value in asked.items() if value is not None})
        return User.from_wire(self._connection.post(USERS, body))

    def list(self, *, page: int = 1, size: int = 50) -> list[User]:
        """A page of users, newest first."""
        answer = self._connection.get(USERS, {"page": page, "size": size})
        return [User.from_wire(item) for item in answer.get("users", [])]

    def get(self, user: User | str) -> User:
        """A user as they are now. Raises NotFound, also for people of other organisations."""
        return User.from_wire(self._connection.get(f"{USERS}/{user_id_of(user)}"))

    def set_permissions(
        self, user: User | str, *, role: str | None = None, permissions: Sequence[str] | None = None
    ) -> User:
        """Give another role, or scopes by name instead of the role's.

        What is taken away is gone at once; what is added comes with their next token: when they sign in, or
        half an hour later. Raises PermissionDenied for more than you hold yourself, InvalidRequest, and
        Refused for the last owner.
        """
        scopes = None if permissions is None else list(permissions)
        asked = {"role": role, "permissions": scopes}
        body = Body.of_json({name: value for name, value in asked.items() if value is not None})
        return User.from_wire(self._connection.put(f"{USERS}/{user_id_of(user)}/permissions", body))


def user_id_of(user: User | str) -> str:
    """The id of a user, given by itself or with the rest."""
    return user.id if isinstance(user, User) else user
