"""QFLARE's bodies and answers about devices and their keys, as its document shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from tg_workbench.contracts.accounts import Secret, utc
from tg_workbench.contracts.device_forms import Capabilities, KeysOffered
from tg_workbench.contracts.qflare.accounts import Pagination
from tg_workbench.contracts.tg_tinker.schemas import Form, Id
from tg_workbench.federation.devices import (
    INTERVAL_DAYS,
    Device,
    DeviceChange,
    DeviceKey,
    NewDevice,
    device_status_of,
    key_status_of,
)
from tg_workbench.storage.database import now

ALGORITHM, PARAMETER_SET, SIGNATURES = "CRYSTALS-Kyber", "ML-KEM-768", "ML-DSA-65"
"""The document's word for the key, what FIPS 203 calls it, and what signs (FIPS 204)."""
DeviceName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
DeviceType = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]


class DeviceInfo(Form):
    """A device as it describes itself."""

    name: DeviceName
    type: DeviceType = "unknown"
    capabilities: Capabilities = Capabilities()

    def as_new(self) -> NewDevice:
        """The room's value."""
        return NewDevice(self.name, self.type, self.capabilities.model_dump())


class RegisterDevice(KeysOffered):
    """The document's body. With `public_keys` and a `csr` beside it, the device's secrets never leave it."""

    enrollment_token: Secret
    device_info: DeviceInfo
    organization_id: Id


class TrainingConfig(Form):
    """What a device trains with; what is not given stays."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None


class DeviceConfig(Form):
    """How a device is to behave; what is not given stays."""

    update_interval: Annotated[int, Field(ge=1, le=86_400)] | None = None
    training_config: TrainingConfig = TrainingConfig()


class ChangeDevice(Form):
    """What is given changes; what is not stays."""

    name: DeviceName | None = None
    capabilities: Capabilities | None = None
    config: DeviceConfig = DeviceConfig()

    def as_change(self) -> DeviceChange:
        """The room's value."""
        return DeviceChange(
            name=self.name,
            capabilities=(self.capabilities or Capabilities()).model_dump(exclude_unset=True),
            config=self.config.training_config.model_dump(exclude_none=True),
            update_interval=self.config.update_interval,
        )


class RotateKeys(Form):
    """Whose keys: a device's, or every device's of the organisation; and how long the old ones stay good."""

    device_id: Id | None = None
    grace_hours: Annotated[float, Field(ge=0, le=2160)] = 168.0


class RegisteredDevice(BaseModel):
    """A new device. Where the server made the keys, their seeds are in this answer and nowhere else.

    `quantum_keys` are then those seeds (`key_origin` is `server`), and otherwise the server's public keys.
    """

    device_id: str
    certificate: str
    quantum_keys: dict[str, str]
    config: dict[str, Any]
    key_origin: str
    key_version: str
    keys_expire_at: str
    certificate_expiry: str
    certificate_chain: str
    server_keys: dict[str, str]


class DeviceView(BaseModel):
    """A device."""

    id: str
    name: str
    type: str
    status: str
    organization_id: str
    last_seen: str | None
    capabilities: dict[str, Any]
    security: dict[str, Any]
    training: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def of(cls, device: Device) -> DeviceView:
        """A device of the room."""
        rounds = device.rounds_completed
        valid = "expired" if device.certificate_expires_at <= now() else "valid"
        return cls(
            id=device.id,
            name=device.name,
            type=device.kind,
            status=device_status_of(device).value,
            organization_id=device.organization_id,
            last_seen=None if device.last_seen is None else utc(device.last_seen),
            capabilities=device.capabilities,
            security={
                "certificate_expiry": utc(device.certificate_expires_at),
                "quantum_key_version": device.key_version,
                "certificate_status": "revoked" if device.revoked_at is not None else valid,
            },
            training={
                "current_round": device.current_round,
                "total_rounds_completed": rounds,
                "avg_training_time": round(device.training_seconds / rounds, 1) if rounds else 0.0,
            },
            config={"update_interval": int(device.update_interval), "training_config": device.config},
        )


class DeviceList(BaseModel):
    """A page of devices, the newest first."""

    devices: list[DeviceView]
    pagination: Pagination


class KeyView(BaseModel):
    """One version of a device's keys."""

    device_id: str
    key_version: str
    created_at: str
    expires_at: str
    algorithm: str = ALGORITHM
    status: str
    parameter_set: str = PARAMETER_SET
    signature_algorithm: str = SIGNATURES
    key_origin: str

    @classmethod
    def of(cls, key: DeviceKey) -> KeyView:
        """A version of the room."""
        return cls(
            device_id=key.device_id,
            key_version=key.version,
            created_at=utc(key.created_at),
            expires_at=utc(min(key.expires_at, key.certificate_expires_at)),
            status=key_status_of(key, now()).value,
            key_origin=key.origin,
        )


class RotationSchedule(BaseModel):
    """When the next keys are due; null while there are none."""

    next_rotation: str | None
    interval_days: int = INTERVAL_DAYS

    @classmethod
    def of(cls, *due: float | None) -> RotationSchedule:
        """The earliest of several times."""
        known = [moment for moment in due if moment is not None]
        return cls(next_rotation=utc(min(known)) if known else None)


class KeyList(BaseModel):
    """A page of keys, the newest first. The server's own are `server_key_version`."""

    keys: list[KeyView]
    rotation_schedule: RotationSchedule
    server_key_version: str | None
    pagination: Pagination


class RotationForced(BaseModel):
    """How many devices have to bring new keys, and by when; the server's own, if they changed."""

    status: str = "rotating"
    devices: int
    deadline: str
    server_key_version: str | None
