"""API keys: what other programs sign in with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.values import Value


@dataclass(frozen=True, slots=True)
class ApiKey(Value):
    """A key. `key` itself is told once, when it is made, and never shown by `repr`."""

    key_id: str
    name: str = ""
    scopes: Sequence[str] = ()
    last_four: str | None = None
    created_at: Any = None
    expires_at: Any = None
    key: str | None = field(default=None, repr=False)


class ApiKeys:
    """The API keys of a workbench."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, *, scopes: Sequence[str] = (), expires_in_days: int | None = None) -> ApiKey:
        """Make a key; read `.key` now, it is not told again. Raises InvalidRequest, PermissionDenied."""
        asked = {"name": name, "scopes": list(scopes) or None, "expires_in_days": expires_in_days}
        body = Body.of_json({key: value for key, value in asked.items() if value is not None})
        return ApiKey.from_wire(self._connection.post("/workbench/v1/api_keys", body))

    def list(self, *, limit: int = 50, offset: int = 0) -> list[ApiKey]:
        """A page of the keys that were made, newest first, without their secrets."""
        answer = self._connection.get("/workbench/v1/api_keys", {"limit": limit, "offset": offset})
        return [ApiKey.from_wire(item) for item in answer.get("api_keys", [])]

    def delete(self, key: ApiKey | str) -> None:
        """Revoke a key. Raises ApiKeyNotFound."""
        key_id = key.key_id if isinstance(key, ApiKey) else key
        self._connection.delete(f"/workbench/v1/api_keys/{key_id}")
