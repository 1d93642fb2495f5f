"""What the federation room stores of devices. No secret is here: of each only its hash or its seal."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class Device(SQLModel, table=True):
    """A machine that learns where its data is. One that is gone keeps its row: rounds remember it."""

    __tablename__ = "devices"
    __table_args__ = (
        sa.Index("ix_devices_of", "organization_id", "created_at"),
        sa.Index("ix_devices_seen", "is_online", "last_seen"),
    )

    id: str = Field(primary_key=True)
    organization_id: str
    name: str
    kind: str
    """What sort of machine it is, in its own words: `raspberry_pi`."""
    capabilities: dict[str, Any] = Field(sa_type=sa.JSON)
    """`cpu_cores`, `memory_gb`, `storage_gb`, `gpu`."""
    config: dict[str, Any] = Field(sa_type=sa.JSON)
    """What was changed of its configuration: `update_interval`, `training_config`."""
    update_interval: float
    """Seconds between two heartbeats: one that was not seen for two of them is offline."""
    key_version: str
    """The version of its newest keys: `v2.1`."""
    certificate_expires_at: float
    is_online: bool = False
    last_seen: float | None = None
    current_round_id: str | None = Field(default=None, index=True)
    """The round it is training in now, if it is."""
    current_round: int | None = None
    """That round's number in its campaign."""
    rounds_completed: int = 0
    training_seconds: float = 0.0
    """How long it has trained in all the rounds that it completed."""
    token_id: str
    """The enrolment token that it came with."""
    created_at: float = Field(default_factory=now)
    revoked_at: float | None = None
    ended_at: float | None = None
    """When it was deregistered."""


class EnrollmentToken(SQLModel, table=True):
    """Lets one device into one organisation, once. Only the SHA-256 of the token is here."""

    __tablename__ = "enrollment_tokens"
    __table_args__ = (sa.Index("ix_enrollment_tokens_of", "organization_id", "created_at"),)

    id: str = Field(primary_key=True)
    hash: str = Field(unique=True)
    last_four: str
    organization_id: str
    name: str | None = None
    created_by: str
    created_at: float = Field(default_factory=now)
    expires_at: float
    used_at: float | None = None
    device_id: str | None = None
    """The device that it let in."""
    revoked_at: float | None = None


class DeviceKey(SQLModel, table=True):
    """One version of a device's keys, with the certificate for them; the private halves are the device's.

    `vN.M`: N counts pairs of keys, M the certificates for one pair.
    """

    __tablename__ = "device_keys"
    __table_args__ = (
        sa.UniqueConstraint("device_id", "major", "minor"),
        sa.Index("ix_device_keys_status", "status", "created_at"),
    )

    id: str = Field(primary_key=True)
    device_id: str = Field(foreign_key="devices.id")
    organization_id: str
    major: int
    minor: int
    encryption_key: bytes
    """The raw public key that is sealed to: 1,216 bytes."""
    signing_key: bytes
    """The raw public key that verifies what the device has signed: 1,952 bytes."""
    origin: str
    """Who has made the keys: `device`, or `server` for a device that brought none."""
    certificate: str = Field(sa_type=sa.Text)
    serial: str = Field(unique=True)
    thumbprint: str = Field(unique=True)
    certificate_expires_at: float
    status: str
    """`active`, `rotating` (still good until `retires_at`), `retired` or `revoked`."""
    created_at: float = Field(default_factory=now)
    expires_at: float
    """When the keys are too old to be good, whatever the certificate says."""
    retires_at: float | None = None
    revoked_at: float | None = None

    @property
    def version(self) -> str:
        """`v2.1`."""
        return f"v{self.major}.{self.minor}"


class DeviceNonce(SQLModel, table=True):
    """A nonce that a device has signed in with, until its assertion would be too old anyway."""

    __tablename__ = "device_nonces"

    device_id: str = Field(primary_key=True)
    nonce: str = Field(primary_key=True)
    expires_at: float = Field(index=True)


class ServerKey(SQLModel, table=True):
    """One version of the server's own keys for devices; the seeds of the private halves lie sealed."""

    __tablename__ = "server_keys"

    id: str = Field(primary_key=True)
    number: int = Field(unique=True)
    encryption_key: bytes
    signing_key: bytes
    sealed: bytes
    endorsement: bytes | None = None
    """The signature of the version before, by which devices come to believe this one."""
    key_id: str
    """The data key that they are sealed with."""
    status: str
    created_at: float = Field(default_factory=now)
    expires_at: float
    retires_at: float | None = None

    @property
    def version(self) -> str:
        """`v3.0`."""
        return f"v{self.number}.0"
