"""What the webhooks room stores: who has subscribed to what, and each delivery."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class DeliveryStatus(StrEnum):
    """Where a delivery stands. A cancelled one belongs to a subscription that was disabled meanwhile."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Subscription(SQLModel, table=True):
    """An address, and what it wants to hear of. Its secrets lie here sealed with the tenant's data keys."""

    __tablename__ = "webhook_subscriptions"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "idempotency_key"),)

    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    owner_id: str
    url: str
    events: list[str] = Field(sa_type=sa.JSON)
    personal: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    """Whether it hears only what its owner is told, as their preferences have it."""
    description: str = ""
    status: str = "active"
    reason: str | None = None
    failures: int = 0
    """Failed tries in a row, whichever deliveries they were of."""
    secret: bytes = Field(sa_type=sa.LargeBinary)
    key_id: str
    previous_secret: bytes | None = Field(default=None, sa_type=sa.LargeBinary)
    previous_key_id: str | None = None
    previous_until: float | None = None
    idempotency_key: str | None = None
    rotation_key: str | None = None
    created_at: float = Field(default_factory=now)


class Delivery(SQLModel, table=True):
    """One message to one subscriber, and how the newest try went.

    `content` is the body without its signature. A claim is one process's right to the current try; it ends
    with its lease.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        sa.Index("ix_webhook_deliveries_due", "status", "due_at"),
        sa.Index("ix_webhook_deliveries_of", "subscription_id", "number"),
        sa.Index("ix_webhook_deliveries_next", "subscription_id", "status", "due_at", "number"),
        sa.Index("ix_webhook_deliveries_leased", "status", "lease_until"),
        {"sqlite_autoincrement": True},
    )

    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    subscription_id: str = Field(foreign_key="webhook_subscriptions.id", ondelete="CASCADE")
    message_id: str
    event: str
    content: str = Field(sa_type=sa.Text)
    status: str = DeliveryStatus.PENDING
    attempts: int = 0
    most_attempts: int
    due_at: float | None = None
    claim: str | None = None
    lease_until: float | None = None
    attempted_at: float | None = None
    response_status: int | None = None
    response_body: str | None = Field(default=None, sa_type=sa.Text)
    milliseconds: float | None = None
    error: str | None = None
    redelivery_of: str | None = None
    created_at: float = Field(default_factory=now, index=True)
