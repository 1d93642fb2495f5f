"""Devices: what `wb.devices` is, where those that learn with their own rows are let in and looked after.

token = wb.devices.enrollment_token("ward 4")       # once, within a day: give it to the ward
print(token.enrollment_token, token.organization_id)
wb.devices.list(status="online")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.organizations import Organization
from tg_workbench.sdk.values import Value

DEVICES, KEYS = "/api/v1/devices", "/api/v1/security/keys"
OURS, TOKENS = "/workbench/v1/devices", "/workbench/v1/enrollment-tokens"


@dataclass(frozen=True, slots=True)
class DeviceView(Value):
    """A device as the workbench saw it at one moment."""

    id: str
    name: str = ""
    type: str = ""
    status: str = "offline"
    """online, training or offline."""
    organization_id: str = ""
    last_seen: str | None = None
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    """cpu_cores, memory_gb, storage_gb and gpu, as it says itself."""
    security: Mapping[str, Any] = field(default_factory=dict)
    """certificate_expiry, certificate_status (valid, expired or revoked) and quantum_key_version."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """current_round, total_rounds_completed and avg_training_time in seconds."""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_revoked(self) -> bool:
        """Whether nothing it shows is good any more."""
        return bool(self.security.get("certificate_status") == "revoked")

    def __str__(self) -> str:
        """One line."""
        rounds = self.training.get("total_rounds_completed", 0)
        standing = "revoked" if self.is_revoked else self.status
        return f"{self.name} ({self.id}): {standing}, {rounds} round{'' if rounds == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class EnrollmentToken(Value):
    """A way in for one device, good once. The token is told when it is made, and never shown by `repr`."""

    enrollment_token_id: str
    name: str | None = None
    organization_id: str = ""
    last_four: str = ""
    created_at: str | None = None
    expires_at: str | None = None
    enrollment_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeviceKey(Value):
    """One version of a device's keys: what updates are sealed and signed with."""

    device_id: str
    key_version: str
    status: str = "active"
    """active, rotating (its next version is there, or due), expired, retired or revoked."""
    created_at: str | None = None
    expires_at: str | None = None
    algorithm: str = ""
    parameter_set: str = ""
    signature_algorithm: str = ""
    key_origin: str = "device"
    """`server`: the workbench made them, so it has seen them."""
    thumbprint: str | None = None
    """Its certificate's; told by `history` only, as is what follows."""
    certificate_expiry: str | None = None
    retires_at: str | None = None
    revoked_at: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceKeys(Value):
    """The keys of devices, newest first, and when new ones are due."""

    keys: Sequence[DeviceKey] = ()
    total: int = 0
    """How many there are; `keys` is a page of them."""
    next_rotation: str | None = None
    interval_days: int = 0
    server_key_version: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """The keys that a JSON object tells of."""
        schedule, pages = data.get("rotation_schedule") or {}, data.get("pagination") or {}
        keys = [DeviceKey.from_wire(each) for each in data.get("keys") or ()]
        told = {**schedule, "total": pages.get("total", len(keys)), "keys": keys}
        return super(DeviceKeys, cls).from_wire({**data, **told})


@dataclass(frozen=True, slots=True)
class Rotation(Value):
    """How many devices have to bring new keys, and by when; the server's own version, if that changed."""

    status: str = "rotating"
    devices: int = 0
    deadline: str | None = None
    server_key_version: str | None = None


class Devices:
    """The devices of your organisation; the workbench's own key sees those of every one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self, *, status: str | None = None, organization: str | None = None, page: int = 1, size: int = 50
    ) -> list[DeviceView]:
        """A page of them, newest first; `status` is online, training or offline."""
        asked = {"status": status, "organization": organization, "page": page, "size": size}
        answer = self._connection.get(DEVICES, asked)
        return [DeviceView.from_wire(each) for each in answer.get("devices", [])]

    def count(self, *, status: str | None = None, organization: str | None = None) -> int:
        """How many there are; `status` and `organization` as for `list`."""
        asked = {"status": status, "organization": organization, "size": 1}
        return int((self._connection.get(DEVICES, asked).get("pagination") or {}).get("total", 0))

    def get(self, device: DeviceView | str) -> DeviceView:
        """A device as it is now. Raises DeviceNotFound."""
        return DeviceView.from_wire(self._connection.get(f"{DEVICES}/{device_id_of(device)}"))

    def __getitem__(self, device_id: str) -> DeviceView:
        """The same, as `wb.devices[id]`."""
        return self.get(device_id)

    def change(
        self,
        device: DeviceView | str,
        *,
        name: str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        update_interval: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
    ) -> DeviceView:
        """Change what is named; the device hears of it with its next heartbeat. Raises DeviceNotFound."""
        training = _given(batch_size=batch_size, learning_rate=learning_rate)
        config = _given(update_interval=update_interval, training_config=training or None)
        asked = _given(
            name=name,
            capabilities=None if capabilities is None else dict(capabilities),
            config=config or None,
        )
        answer = self._connection.put(f"{DEVICES}/{device_id_of(device)}", Body.of_json(asked))
        return DeviceView.from_wire(answer)

    def revoke(self, device: DeviceView | str, reason: str = "unspecified") -> DeviceView:
        """Let nothing that it shows be good any more, at once: it is lost, or stolen.

        `reason` is a word that everybody may hear (`key_compromise`). Raises DeviceNotFound.
        """
        body = Body.of_json({"reason": reason})
        return DeviceView.from_wire(self._connection.post(f"{OURS}/{device_id_of(device)}/revoke", body))

    def deregister(self, device: DeviceView | str) -> None:
        """Forget it, and revoke what it shows. Raises DeviceNotFound."""
        self._connection.delete(f"{DEVICES}/{device_id_of(device)}")

    # ------------------------------------------------------------------------- ways in
    def enrollment_token(
        self,
        name: str | None = None,
        *,
        expires_in_hours: float = 24.0,
        organization: Organization | str | None = None,
    ) -> EnrollmentToken:
        """Let one device in: give its owner `.enrollment_token` now, it is not told again.

        The workbench's own key may name any organisation. Raises InvalidRequest, PermissionDenied.
        """
        whose = organization.id if isinstance(organization, Organization) else organization
        asked = _given(name=name, organization_id=whose, expires_in_hours=expires_in_hours)
        return EnrollmentToken.from_wire(self._connection.post(TOKENS, Body.of_json(asked)))

    def enrollment_tokens(self, *, limit: int = 50, offset: int = 0) -> Sequence[EnrollmentToken]:
        """A page of tokens that no device has used yet, newest first, without their secrets."""
        answer = self._connection.get(TOKENS, {"limit": limit, "offset": offset})
        return [EnrollmentToken.from_wire(each) for each in answer.get("enrollment_tokens", [])]

    def withdraw(self, token: EnrollmentToken | str) -> None:
        """Take back a token that no device has used. Raises NotFound."""
        which = token.enrollment_token_id if isinstance(token, EnrollmentToken) else token
        self._connection.delete(f"{TOKENS}/{which}")

    # ------------------------------------------------------------------------- keys
    def keys(
        self,
        device: DeviceView | str | None = None,
        *,
        status: str | None = None,
        page: int = 1,
        size: int = 100,
    ) -> DeviceKeys:
        """The keys of one device or of all, newest first, and when the next are due."""
        which = None if device is None else device_id_of(device)
        asked = {"device_id": which, "status": status, "page": page, "size": size}
        return DeviceKeys.from_wire(self._connection.get(KEYS, asked))

    def key_history(self, device: DeviceView | str) -> Sequence[DeviceKey]:
        """Every version of a device's keys, newest first, with its certificate's marks."""
        answer = self._connection.get(f"{OURS}/{device_id_of(device)}/keys")
        return [DeviceKey.from_wire(each) for each in answer.get("keys", [])]

    def rotate_keys(self, device: DeviceView | str | None = None, *, grace_hours: float = 168.0) -> Rotation:
        """Have a device, or all of them, bring new keys; the old ones stay good for `grace_hours`.

        The workbench's own key, asking for all, changes the server's keys as well. Raises PermissionDenied.
        """
        which = None if device is None else device_id_of(device)
        asked = _given(device_id=which, grace_hours=grace_hours)
        return Rotation.from_wire(self._connection.post(f"{KEYS}/rotate", Body.of_json(asked)))


def device_id_of(device: DeviceView | str) -> str:
    """The id of a device, given by itself or with the rest."""
    return device.id if isinstance(device, DeviceView) else device


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
