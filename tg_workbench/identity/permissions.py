"""Permissions: which role may do what, and what the documents' OAuth scopes mean in our words.

A role is a bundle of scopes; a member may hold others instead, given by somebody who holds them. Webhooks and
devices are the organisation's, and tell of what all its members do, so they are for its administrators.
`monitoring` is in no role: metrics and logs are the whole server's, so only its operator gives them away.
"""

from __future__ import annotations

from tg_workbench.errors import InvalidRequest, PermissionDenied, ScopeInvalid
from tg_workbench.identity.principal import SCOPES, Principal

_MEMBER = frozenset({"read", "train", "datasets", "keys"})
_ADMIN = _MEMBER | {"devices", "webhooks", "audit", "admin"}
ROLES: dict[str, frozenset[str]] = {
    "viewer": frozenset({"read"}),
    "member": _MEMBER,
    "admin": _ADMIN,
    "owner": _ADMIN,
}
"""An owner may do what an administrator may, and also make and unmake owners."""
OAUTH_SCOPES: dict[str, frozenset[str]] = {
    **{scope: frozenset({scope}) for scope in SCOPES},
    "read:devices": frozenset({"read"}),
    "write:devices": frozenset({"train", "devices"}),
}
"""QFLARE's three (`admin` is ours as well), and our own."""


def scopes_of(role: str, permissions: str | None) -> frozenset[str]:
    """What a member may do: what was given by name, or else what the role brings."""
    return ROLES[role] if permissions is None else frozenset(permissions.split()) & frozenset(SCOPES)


def written(scopes: frozenset[str]) -> str:
    """Scopes as they are stored, and as OAuth writes them."""
    return " ".join(scope for scope in SCOPES if scope in scopes)


def meant_by(asked: str) -> frozenset[str]:
    """Our scopes for OAuth's. Raises ScopeInvalid for an unknown one, and for none at all."""
    names = asked.split()
    if not names or any(name not in OAUTH_SCOPES for name in names):
        raise ScopeInvalid
    return frozenset[str]().union(*(OAUTH_SCOPES[name] for name in names))


def check_gift(giver: Principal, role: str, permissions: frozenset[str] | None) -> None:
    """Raises PermissionDenied when somebody gives away more than they hold, and InvalidRequest."""
    if role not in ROLES:
        raise InvalidRequest(f"the roles are {', '.join(ROLES)}")
    if permissions is not None and not permissions <= set(SCOPES):
        raise InvalidRequest(f"the permissions are {', '.join(SCOPES)}")
    given = ROLES[role] if permissions is None else permissions
    if beyond := sorted(given - giver.scopes):
        raise PermissionDenied(f"you cannot give away what you do not hold: {', '.join(beyond)}")
