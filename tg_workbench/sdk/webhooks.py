"""Webhooks: having another system told of what happens on the workbench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.sdk.connection import Body, Call, Connection
from tg_workbench.sdk.values import Value


@dataclass(frozen=True, slots=True)
class Webhook(Value):
    """A subscription. `secret` itself is told once, when it is made, and never shown by `repr`."""

    webhook_id: str
    url: str = ""
    events: Sequence[str] = ()
    description: str = ""
    status: str = "active"
    reason: str | None = None
    consecutive_failures: int = 0
    previous_secret_until: str | None = None
    created_at: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WebhookDelivery(Value):
    """One message to a webhook, and how its newest try went."""

    delivery_id: str
    webhook_id: str = ""
    message_id: str = ""
    event: str = ""
    status: str = "pending"
    """pending, delivered, failed or cancelled."""
    attempts: int = 0
    response_status: int | None = None
    response_body: str | None = None
    duration_ms: float | None = None
    error: str | None = None
    redelivery_of: str | None = None
    created_at: str | None = None
    attempted_at: str | None = None
    next_attempt_at: str | None = None


class Webhooks:
    """The webhooks of your organisation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, url: str, events: Sequence[str], *, description: str = "") -> Webhook:
        """Have `events` sent to `url`; read `.secret` now, it is not told again.

        Raises InvalidRequest, TooManyWebhooks.
        """
        body = {"url": url, "events": list(events), "description": description}
        return Webhook.from_wire(self._connection.post("/workbench/v1/webhooks", Body.of_json(body)))

    def list(self, *, limit: int = 50, offset: int = 0) -> list[Webhook]:
        """A page of webhooks, newest first, without their secrets."""
        answer = self._connection.get("/workbench/v1/webhooks", {"limit": limit, "offset": offset})
        return [Webhook.from_wire(item) for item in answer.get("webhooks", [])]

    def get(self, webhook: Webhook | str) -> Webhook:
        """A webhook as it is now. Raises WebhookNotFound."""
        return Webhook.from_wire(self._connection.get(_path(webhook)))

    def update(
        self,
        webhook: Webhook | str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        active: bool | None = None,
    ) -> Webhook:
        """Change what is named; `active=True` takes up one that was disabled."""
        status = None if active is None else "active" if active else "disabled"
        chosen = list(events) if events is not None else None
        asked = {"url": url, "events": chosen, "description": description, "status": status}
        body = Body.of_json({name: value for name, value in asked.items() if value is not None})
        return Webhook.from_wire(self._connection.send(Call("PATCH", _path(webhook), body=body)))

    def rotate_secret(self, webhook: Webhook | str, *, grace_hours: float = 24.0) -> Webhook:
        """A new secret: read `.secret` now. The old one stays good for `grace_hours`."""
        body = Body.of_json({"grace_hours": grace_hours})
        return Webhook.from_wire(self._connection.post(_path(webhook) + "/rotate_secret", body))

    def delete(self, webhook: Webhook | str) -> None:
        """Send it nothing more. Raises WebhookNotFound."""
        self._connection.delete(_path(webhook))

    def ping(self, webhook: Webhook | str) -> WebhookDelivery:
        """Send it a message that says nothing; `delivery(webhook, …)` tells how it went.

        Raises Refused while another ping of it waits.
        """
        return WebhookDelivery.from_wire(self._connection.post(_path(webhook) + "/ping"))

    def deliveries(
        self, webhook: Webhook | str, *, status: str | None = None, limit: int = 50, offset: int = 0
    ) -> Sequence[WebhookDelivery]:
        """A page of what was sent and what waits, newest first."""
        query: dict[str, Any] = {"status": status, "limit": limit, "offset": offset}
        answer = self._connection.get(_path(webhook) + "/deliveries", query)
        return [WebhookDelivery.from_wire(item) for item in answer.get("deliveries", [])]

    def delivery(self, webhook: Webhook | str, delivery: WebhookDelivery | str) -> WebhookDelivery:
        """A delivery as it stands now. Raises DeliveryNotFound."""
        return WebhookDelivery.from_wire(self._connection.get(_delivery_path(webhook, delivery)))

    def redeliver(self, webhook: Webhook | str, delivery: WebhookDelivery | str) -> WebhookDelivery:
        """Send a message again. Raises Refused while it is still being tried, or too many others wait."""
        answer = self._connection.post(_delivery_path(webhook, delivery) + "/redeliver")
        return WebhookDelivery.from_wire(answer)


def _path(webhook: Webhook | str) -> str:
    return f"/workbench/v1/webhooks/{webhook.webhook_id if isinstance(webhook, Webhook) else webhook}"


def _delivery_path(webhook: Webhook | str, delivery: WebhookDelivery | str) -> str:
    delivery_id = delivery.delivery_id if isinstance(delivery, WebhookDelivery) else delivery
    return f"{_path(webhook)}/deliveries/{delivery_id}"
