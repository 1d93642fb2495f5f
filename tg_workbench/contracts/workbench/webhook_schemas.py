"""Bodies and views of webhooks. A secret is in two of the views, and each of those is told once.

The query of a URL may hold a secret too, so views show `?…` in its place; that is no URL, so a view that is
sent back changes nothing by mistake.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.outbox import WebhookEvent
from tg_workbench.webhooks import Delivery, DeliveryStatus, Subscription, SubscriptionSpec

Url = Annotated[str, Field(min_length=8, max_length=2048)]
Event = Literal[
    "device.registered",
    "device.offline",
    "training.round_started",
    "training.round_completed",
    "security.key_rotated",
    "security.alert",
    "training.started",
    "training.progress",
    "training.completed",
    "training.failed",
    "dataset.processed",
]
Events = Annotated[list[Event], Field(min_length=1, max_length=len(WebhookEvent))]
Description = Annotated[str, Field(max_length=500)]
State = Literal["active", "disabled"]


# ----------------------------------------------------------------------------- bodies
class CreateWebhook(ExactForm):
    """Where to send what."""

    url: Url
    events: Events
    description: Description = ""
    personal: bool = False
    """Whether it hears only what you are told yourself, as your notification preferences have it."""

    def as_spec(self) -> SubscriptionSpec:
        """The room's value."""
        return SubscriptionSpec(self.url, tuple(self.events), self.description, personal=self.personal)


class UpdateWebhook(ExactForm):
    """What to change; what is not sent stays. `active` takes up one that was disabled."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    status: State | None = None

    def as_spec(self) -> SubscriptionSpec:
        """The room's value."""
        events = None if self.events is None else tuple(self.events)
        return SubscriptionSpec(self.url, events, self.description, self.status)


class RotateSecret(ExactForm):
    """How long the old secret stays good beside the new one."""

    grace_hours: float = Field(default=24.0, ge=0, le=168)


# ----------------------------------------------------------------------------- views
class WebhookView(View):
    """A webhook without its secret."""

    webhook_id: str
    url: str
    """Without its query, which may hold a secret: `?…` stands for it."""
    events: list[str]
    personal: bool
    description: str
    status: State
    reason: str | None
    """Why it is disabled."""
    consecutive_failures: int
    previous_secret_until: str | None
    created_at: str

    @classmethod
    def of(cls, webhook: Subscription) -> WebhookView:
        """A subscription of the room."""
        return cls(**_webhook(webhook))  # type: ignore[arg-type]  # pydantic checks the members


class IssuedWebhook(WebhookView):
    """A webhook with a new secret. `secret` is shown here and never again."""

    secret: str

    @classmethod
    def of_new(cls, webhook: Subscription, secret: str) -> IssuedWebhook:
        """A subscription whose secret was just made."""
        return cls(**_webhook(webhook), secret=secret)  # type: ignore[arg-type]  # as above


class WebhookList(View):
    """A page of webhooks, the newest first."""

    webhooks: list[WebhookView]
    total: int
    limit: int
    offset: int


class DeliveryView(View):
    """One message to a webhook, and how its newest try went."""

    delivery_id: str
    webhook_id: str
    message_id: str
    """The header `webhook-id` of every try, and of redeliveries: receivers tell repetitions by it."""
    event: str
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    response_body: str | None
    """The first 2,048 bytes of what the receiver answered, as text."""
    duration_ms: float | None
    error: str | None
    redelivery_of: str | None
    created_at: str
    attempted_at: str | None
    next_attempt_at: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryView:
        """A delivery of the room."""
        return cls(
            **delivery.model_dump(
                include={
                    *("message_id", "event", "status", "attempts", "error"),
                    *("response_status", "response_body", "redelivery_of"),
                }
            ),
            delivery_id=delivery.id,
            webhook_id=delivery.subscription_id,
            duration_ms=delivery.milliseconds,
            created_at=iso(delivery.created_at),
            attempted_at=_iso(delivery.attempted_at),
            next_attempt_at=_iso(delivery.due_at),
        )


class DeliveryList(View):
    """A page of deliveries, the newest first."""

    deliveries: list[DeliveryView]
    total: int
    limit: int
    offset: int


def _webhook(webhook: Subscription) -> dict[str, object]:
    return {
        "webhook_id": webhook.id,
        "url": _without_query(webhook.url),
        "events": webhook.events,
        "personal": webhook.personal,
        "description": webhook.description,
        "status": webhook.status,
        "reason": webhook.reason,
        "consecutive_failures": webhook.failures,
        "previous_secret_until": _iso(webhook.previous_until),
        "created_at": iso(webhook.created_at),
    }


def _without_query(url: str) -> str:
    before, mark, _ = url.partition("?")
    return before + mark + ("…" if mark else "")


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)
