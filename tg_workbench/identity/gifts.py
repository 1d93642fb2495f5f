"""What a row of this room gives somebody, in words of ours, for the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tg_workbench.identity.tables import ApiKey, Invitation, Membership


def gift_of(rows: Iterable[Any]) -> str | None:
    """`role:viewer`, or `scopes:read/train` where scopes are given by name; None: nothing was given."""
    for row in rows:
        match row:
            case Membership(ended_at=None, permissions=str() as permissions):
                return _scopes(permissions.split())
            case Membership(ended_at=None, role=role) | Invitation(ended_at=None, role=role):
                return f"role:{role}"
            case ApiKey(revoked_at=None, scopes=scopes):
                return _scopes(scopes)
    return None


def _scopes(scopes: Iterable[str]) -> str:
    return f"scopes:{'/'.join(sorted(scopes)) or 'none'}"
