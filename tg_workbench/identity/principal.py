"""A principal: whoever is asking, the tenant they belong to, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass, field

SCOPES = ("read", "train", "datasets", "keys", "audit")
"""`read` looks; `train` drives training clients; `datasets` adds and removes data; `keys` issues API keys;
`audit` reads the audit log."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever is asking."""

    id: str
    tenant_id: str
    scopes: frozenset[str]
    kind: str = field(default="user", compare=False)
    """For the audit log: `user`, `api_key`, `device`."""
    credential_id: str | None = field(default=None, compare=False)
    """For the audit log: the id of what they have shown, where it has one."""

    def may(self, scope: str) -> bool:
        """Whether this principal holds `scope`."""
        return scope in self.scopes


LOCAL_PRINCIPAL = Principal(id="local", tenant_id="local", scopes=frozenset(SCOPES))
"""The one user of a single-user workbench, and its administrator."""
