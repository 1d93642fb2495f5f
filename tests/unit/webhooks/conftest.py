"""A database with the webhooks of one organisation, and a courier for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.webhook_receiver import Received
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage import Database
from tg_workbench.webhooks import (
    Courier,
    Deliveries,
    Delivery,
    Reach,
    Subscription,
    Subscriptions,
    SubscriptionSpec,
)

NEAR = Reach(https_only=False, loopback=True)
"""How far messages go in development, where loopback is allowed."""


class Office:
    """What the API and the rooms would do, done by hand. `late` is how far its clock is put forward."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = Database(f"sqlite:///{home / 'test.db'}")
        self.database.migrate()
        self.late = 0.0

    def clock(self) -> float:
        return time.time() + self.late

    def subscribe(
        self, url: str, events: Sequence[str] = tuple(WebhookEvent), *, of: str = LOCAL_PRINCIPAL.tenant_id
    ) -> tuple[Subscription, str]:
        with self.database.write() as session:
            spec = SubscriptionSpec(url, tuple(events))
            owner = replace(LOCAL_PRINCIPAL, tenant_id=of)
            return Subscriptions(session, self.home, NEAR).create(owner, spec)

    def tell(self, event: WebhookEvent = WebhookEvent.DEVICE_OFFLINE, **data: Any) -> None:
        with self.database.write() as session:
            Outbox(session).put(LOCAL_PRINCIPAL.tenant_id, event, data)

    def courier(self, **more: Any) -> Courier:
        return Courier(self.database, self.home, NEAR, clock=self.clock, **more)

    def subscription(self, subscription: Subscription) -> Subscription:
        with self.database.read() as session:
            return session.get_one(Subscription, subscription.id)

    def deliveries(self, subscription: Subscription) -> list[Delivery]:
        with self.database.read() as session:
            page, _ = Deliveries(session, subscription).list_page(limit=1000)
            return page


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.database.close()


def by_message(received: Sequence[Received]) -> dict[str, list[Received]]:
    """Requests by the id that receivers tell repetitions by."""
    found: dict[str, list[Received]] = {}
    for request in received:
        found.setdefault(request.message_id, []).append(request)
    return found
