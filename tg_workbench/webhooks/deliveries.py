"""Deliveries: the log of every message to every subscriber, and asking for one more."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DeliveryNotFound, Refused
from tg_workbench.storage.database import now
from tg_workbench.webhooks.signatures import canonical
from tg_workbench.webhooks.tables import Delivery, DeliveryStatus, Subscription

MOST_ATTEMPTS = 10
MOST_WAITING = 10_000
"""A subscription for which more waits has fallen too far behind."""
PING = "webhook.ping"
"""No subscription names it: it comes when somebody asks for it."""


class Deliveries:
    """The deliveries of one subscription, which the caller may see."""

    def __init__(self, session: Session, subscription: Subscription) -> None:
        self.session = session
        self.subscription = subscription

    def ping(self) -> Delivery:
        """Send a message that says nothing, once; also to a disabled one, to see whether it may be taken up.

        Raises Refused while another waits.
        """
        if waiting_for(self.session, self.subscription, col(Delivery.event) == PING):
            raise Refused("a ping of this webhook is still waiting or being tried")
        delivery = delivery_of(self.subscription, PING, {}, at=now(), message_id=new_message_id())
        delivery.most_attempts = 1
        return self._keep(delivery)

    def list_page(
        self, *, status: str | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[list[Delivery], int]:
        """Deliveries, newest first, and how many there are; `status` picks some."""
        mine = [col(Delivery.subscription_id) == self.subscription.id]
        if status is not None:
            mine.append(col(Delivery.status) == status)
        total = self.session.exec(select(sa.func.count()).select_from(Delivery).where(*mine)).one()
        query = select(Delivery).where(*mine).order_by(col(Delivery.number).desc())
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def get(self, delivery_id: str) -> Delivery:
        """The delivery. Raises DeliveryNotFound, also when it is another subscription's."""
        delivery = self.session.exec(select(Delivery).where(Delivery.id == delivery_id)).first()
        if delivery is None or delivery.subscription_id != self.subscription.id:
            raise DeliveryNotFound
        return delivery

    def redeliver(self, delivery_id: str) -> Delivery:
        """Send a message again, under the id it had. Raises Refused while it waits or could not go.

        What is asked for counts among what waits, of which there is only so much.
        """
        old = self.get(delivery_id)
        if old.status == DeliveryStatus.PENDING:
            raise Refused("this delivery is still being tried")
        if self.subscription.status != "active":
            raise Refused("this webhook is disabled: make it active first")
        return self._keep(
            Delivery(
                id=new_delivery_id(),
                subscription_id=old.subscription_id,
                message_id=old.message_id,
                event=old.event,
                content=old.content,
                most_attempts=1 if old.event == PING else MOST_ATTEMPTS,
                due_at=now(),
                redelivery_of=old.id,
            )
        )

    def _keep(self, delivery: Delivery) -> Delivery:
        if waiting_for(self.session, self.subscription) >= MOST_WAITING:
            raise Refused(f"{MOST_WAITING} messages are waiting for this webhook: let them be taken first")
        self.session.add(delivery)
        self.session.flush()
        return delivery


def delivery_of(
    subscription: Subscription, event: str, data: dict[str, Any], *, at: float, message_id: str
) -> Delivery:
    """A message of what happened `at` a time, for one subscriber, in the form both documents give it."""
    body = {
        "event": event,
        "timestamp": datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": data,
        "id": message_id,
        "webhook_id": subscription.id,
    }
    return Delivery(
        id=new_delivery_id(),
        subscription_id=subscription.id,
        message_id=message_id,
        event=event,
        content=canonical(body),
        most_attempts=MOST_ATTEMPTS,
        due_at=at,
    )


def waiting_for(session: Session, subscription: Subscription, *which: Any) -> int:
    """How many deliveries wait for a subscription, or how many of those that are like `which`."""
    pending = (
        col(Delivery.subscription_id) == subscription.id,
        col(Delivery.status) == DeliveryStatus.PENDING,
    )
    return session.exec(select(sa.func.count()).select_from(Delivery).where(*pending, *which)).one()


def new_message_id() -> str:
    """What a receiver tells repetitions by."""
    return f"msg-{uuid.uuid4()}"


def new_delivery_id() -> str:
    """What we tell deliveries by."""
    return f"whd-{uuid.uuid4()}"
