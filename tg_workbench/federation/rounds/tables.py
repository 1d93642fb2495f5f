"""What rounds store: campaigns, their rounds, and each device's part in them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class Campaign(SQLModel, table=True):
    """One model that devices learn, in one round or in many. Its model lies sealed in a blob."""

    __tablename__ = "campaigns"
    __table_args__ = (sa.Index("ix_campaigns_owner", "tenant_id", "created_at"),)

    id: str = Field(primary_key=True)
    owner_id: str
    tenant_id: str
    name: str
    spec: dict[str, Any] = Field(sa_type=sa.JSON)
    status: str = "active"
    """active, completed, failed or cancelled."""
    reason: str | None = None
    rounds_done: int = 0
    model_version: int = 0
    model_blob: str | None = None
    state_blob: str | None = None
    """What the strategy remembers from round to round."""
    model_digest: str | None = None
    model_id: str | None = None
    """The model in the registry that it has come to."""
    key_id: str | None = None
    clip: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    """The norm that updates are clipped to, where it follows a quantile of theirs."""
    idempotency_key: str | None = None
    fingerprint: str | None = None
    created_at: float = Field(default_factory=now)
    ended_at: float | None = None


class Round(SQLModel, table=True):
    """One round. Its keys are destroyed when it is over, so what was sent for it opens never again.

    Where devices may come late, they are kept for those that may still come, and no longer.
    """

    __tablename__ = "rounds"
    __table_args__ = (
        sa.UniqueConstraint("campaign_id", "number"),
        sa.Index("ix_rounds_due", "phase", "due_at"),
        sa.Index("ix_rounds_tenant", "tenant_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    campaign_id: str = Field(foreign_key="campaigns.id")
    tenant_id: str
    number: int
    phase: str
    reason: str | None = None
    due_at: float | None = None
    """When its phase ends at the latest."""
    base_version: int = 0
    base_digest: str | None = None
    """SHA-256 of the model it starts from, as safetensors."""
    layout: str | None = Field(default=None, sa_type=sa.Text)
    """Names and shapes of the model's tensors, as `Layout` writes them."""
    download_blob: str | None = None
    """That model, sealed under `model_key` for those who take part."""
    download_bytes: int | None = None
    result_version: int | None = None
    result_digest: str | None = None
    figures: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    privacy: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    public_key: bytes | None = None
    """What updates are sealed to: an X-Wing key of this round alone."""
    sealed_keys: bytes | None = None
    """Its other half and the key of `download_blob`, sealed under the tenant's key; None once destroyed."""
    key_id: str | None = None
    created_at: float = Field(default_factory=now)
    training_at: float | None = None
    ended_at: float | None = None


class Participation(SQLModel, table=True):
    """A device's part in a round."""

    __tablename__ = "participations"
    __table_args__ = (
        sa.UniqueConstraint("round_id", "device_id"),
        sa.Index("ix_participations_device", "device_id", "joined_at"),
        sa.Index("ix_participations_counted", "counted_in", "device_id", unique=True),
    )

    id: int | None = Field(default=None, primary_key=True)
    round_id: str = Field(foreign_key="rounds.id")
    counted_in: str | None = None
    """The round whose model its update goes into, once it is accepted: a later one for one that came late."""
    device_id: str
    status: str
    joined_at: float = Field(default_factory=now)
    submitted_at: float | None = None
    ended_at: float | None = None
    blob: str | None = None
    """Its envelope as it came, until it is in a model, or never will be."""
    digest: str | None = None
    """SHA-256 of that envelope."""
    size_bytes: int | None = None
    sample_count: int | None = None
    metrics: dict[str, float] | None = Field(default=None, sa_type=sa.JSON)
    receipt: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    reason: str | None = None


class UpdateUpload(SQLModel, table=True):
    """An update that comes in pieces. How much of it is here is how long the partial file of its id is."""

    __tablename__ = "update_uploads"
    __table_args__ = (sa.UniqueConstraint("round_id", "device_id"),)

    id: str = Field(primary_key=True)
    round_id: str = Field(foreign_key="rounds.id")
    device_id: str
    tenant_id: str
    size: int = Field(sa_type=sa.BigInteger)
    sha256: str
    created_at: float = Field(default_factory=now)
    expires_at: float = Field(index=True)


class SecureRound(SQLModel, table=True):
    """How far a round with secure aggregation has come. It goes when the round is over, with all messages."""

    __tablename__ = "secure_rounds"

    round_id: str = Field(primary_key=True, foreign_key="rounds.id")
    step: str
    keys: dict[str, str] = Field(sa_type=sa.JSON)
    """The devices that it began with, and the version of the keys that each of them signs with."""
    roster: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    survivors: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)


class SecureMessage(SQLModel, table=True):
    """What a device has said in one step, as it came, less its parcels."""

    __tablename__ = "secure_messages"

    round_id: str = Field(primary_key=True, foreign_key="rounds.id")
    step: str = Field(primary_key=True)
    device_id: str = Field(primary_key=True)
    content: dict[str, Any] = Field(sa_type=sa.JSON)
    digest: str
    """SHA-256 of all that it said: the same again is the same."""


class SecureParcel(SQLModel, table=True):
    """What a device has for one other: sealed to that other, so nobody can read it here."""

    __tablename__ = "secure_parcels"
    __table_args__ = (sa.Index("ix_secure_parcels_recipient", "round_id", "recipient"),)

    round_id: str = Field(primary_key=True, foreign_key="rounds.id")
    sender: str = Field(primary_key=True)
    recipient: str = Field(primary_key=True)
    shares: bytes
    pair: bytes
    marks: bytes
