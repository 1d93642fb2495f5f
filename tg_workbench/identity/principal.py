"""A principal: whoever is asking, the tenant they belong to, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

SCOPES = ("read", "train", "datasets", "keys", "monitoring")
"""`read` looks; `train` drives training clients; `datasets` adds and removes data; `keys` issues API keys;
`monitoring` reads metrics, logs and alerts, and answers the latter."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever is asking."""

    id: str
    tenant_id: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether this principal holds `scope`."""
        return scope in self.scopes


LOCAL_PRINCIPAL = Principal(id="local", tenant_id="local", scopes=frozenset(SCOPES))
"""The one user of a single-user workbench, and its administrator."""
