"""A principal: whoever is asking, the tenant they belong to, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass, field

from tg_workbench.errors import OrganizationNotFound

SCOPES = ("read", "train", "datasets", "devices", "keys", "webhooks", "audit", "monitoring", "admin")
"""What a credential may be allowed to do.

`read` looks; `train` drives training clients; `datasets` adds and removes data; `devices` lets devices in and
sends them away; `keys` issues API keys; `webhooks` subscribes to events; `audit` reads the audit log;
`monitoring` reads the server's metrics, logs and alerts; `admin` looks after organisations, their members,
and OAuth clients.
"""
DEVICE = "device"
"""The one scope of a device. No person, key or application ever holds it, and a device holds no other."""
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever is asking.

    `id` is what rooms remember as an owner. For a user it is the id of a membership, one person's place in
    one organisation: so what they made for one is not seen while they act for another, nor after they left.
    """

    id: str
    tenant_id: str
    scopes: frozenset[str]
    user_id: str | None = None
    session_id: str | None = None
    client_id: str | None = None
    """The application that acts for the user, if it is one."""
    key_id: str | None = field(default=None, compare=False)
    """The API key that was shown, for the audit log."""

    def may(self, scope: str) -> bool:
        """Whether this principal holds `scope`."""
        return scope in self.scopes

    @property
    def is_person(self) -> bool:
        """Whether a person has signed in by themselves, and no key or application comes in their name."""
        return self.session_id is not None and self.client_id is None

    @property
    def is_device(self) -> bool:
        """Whether it is a device, which acts for nobody but itself."""
        return DEVICE in self.scopes

    @property
    def is_operator(self) -> bool:
        """Whether it looks after the workbench itself: every organisation and user, though not their data.

        So do the administrators of the organisation `local`, into which the local principal invites.
        """
        return self.tenant_id == LOCAL and self.may("admin")

    def meant(self, organization_id: str | None) -> str:
        """The organisation that a request is about: the one it acts for, or any that the operator names.

        Raises OrganizationNotFound for another's, and for another of its own.
        """
        if organization_id is None or organization_id == self.tenant_id:
            return self.tenant_id
        if not self.is_operator:
            raise OrganizationNotFound
        return organization_id


LOCAL_PRINCIPAL = Principal(id=LOCAL, tenant_id=LOCAL, scopes=frozenset(SCOPES))
"""The one user of a single-user workbench, and its administrator."""
