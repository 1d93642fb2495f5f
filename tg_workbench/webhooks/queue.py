"""The delivery queue: notices become deliveries, deliveries are claimed, and how each try went is kept.

A claim is a lease: whoever holds it may try once, and writes down how that went only while it is still the
one. A process that ends in the middle leaves a lease that runs out, and another try is made; so a message
comes at least once, and two processes never try the same one at once.

One try at a time for each subscription: a receiver that hangs keeps its own messages waiting, nobody else's.
"""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from tg_workbench.outbox import Notice
from tg_workbench.storage.statements import Statement
from tg_workbench.webhooks.deliveries import MOST_ATTEMPTS, PING, delivery_of, new_message_id
from tg_workbench.webhooks.subscriptions import disable
from tg_workbench.webhooks.tables import Delivery, DeliveryStatus, Subscription

LEASE_SECONDS = 30.0
"""Three times what a try may take."""
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 1200.0
MOST_FAILURES = MOST_ATTEMPTS
MOST_WAITING = 10_000
"""A subscription for which more waits has fallen too far behind."""
KEPT_SECONDS = 90 * 86_400.0
MOST_NOTICES = 100
MOST_PRUNED = 1000
GONE = 410
CUT_OFF = "the workbench ended during the last try"

_DUE = sa.and_(
    col(Delivery.status) == DeliveryStatus.PENDING.value,
    col(Delivery.due_at) <= sa.bindparam("time", type_=sa.Float),
    sa.or_(
        col(Delivery.lease_until).is_(None), col(Delivery.lease_until) <= sa.bindparam("time", type_=sa.Float)
    ),
)
_ANYTHING = Statement(sa.select(sa.or_(sa.exists().where(col(Notice.id) > 0), sa.exists().where(_DUE))))


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to try one delivery once."""

    delivery_id: str
    subscription_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try went: delivered, or `problem` says why not."""

    problem: str | None = None
    status: int | None = None
    text: str | None = None
    milliseconds: float | None = None


class DeliveryQueue:
    """What waits to be delivered. `time` is the moment at which it is looked at."""

    def __init__(self, session: Session, time: float) -> None:
        self.session = session
        self.time = time

    def has_work(self) -> bool:
        """Whether there is anything to do. One quick look; nothing is written."""
        return bool(_ANYTHING.value(self.session, time=self.time))

    def fan_out(self) -> int:
        """Take notices out of the outbox and make a delivery for each subscriber; how many notices it were.

        Whoever subscribed after something happened does not hear of it.
        """
        oldest = select(Notice.id).order_by(col(Notice.id)).limit(MOST_NOTICES)
        taken = sa.delete(Notice).where(col(Notice.id).in_(oldest)).returning(*_columns(Notice))
        notices = sorted(self.session.connection().execute(taken).all(), key=lambda notice: notice.id)
        if not notices:
            return 0
        active = select(Subscription).where(
            col(Subscription.tenant_id).in_({notice.tenant_id for notice in notices}),
            Subscription.status == "active",
        )
        subscriptions = list(self.session.exec(active))
        heard = [self._tell(notice, subscriptions) for notice in notices]
        self.session.flush()
        for subscription in {
            subscription.id: subscription for told in heard for subscription in told
        }.values():
            if self._waiting(subscription) > MOST_WAITING:
                disable(self.session, subscription, f"more than {MOST_WAITING} messages were waiting for it")
        return len(notices)

    def claim(self, most: int) -> list[Claim]:
        """The right to try what is due: of each subscription that has no try going on, the oldest."""
        other = aliased(Delivery)
        busy = sa.select(col(other.number)).where(
            col(other.subscription_id) == col(Delivery.subscription_id),
            col(other.status) == DeliveryStatus.PENDING.value,
            col(other.lease_until) > self.time,
        )
        oldest = (
            sa.select(sa.func.min(col(Delivery.number)))
            .where(_DUE, ~busy.exists())
            .group_by(col(Delivery.subscription_id))
            .order_by(sa.func.min(col(Delivery.due_at)))
            .limit(most)
        )
        self._give_up()
        token = uuid.uuid4().hex
        claimed = (
            sa.update(Delivery)
            .where(col(Delivery.number).in_(oldest), _DUE)
            .values(claim=token, lease_until=self.time + LEASE_SECONDS, attempts=col(Delivery.attempts) + 1)
            .returning(col(Delivery.id), col(Delivery.subscription_id))
        )
        rows = self.session.connection().execute(claimed, {"time": self.time}).all()
        return [Claim(row.id, row.subscription_id, token) for row in rows]

    def _give_up(self) -> None:
        """What was cut off in its last try gets no other one."""
        last = col(Delivery.attempts) >= col(Delivery.most_attempts)
        self.session.connection().execute(
            sa.update(Delivery)
            .where(_DUE, last)
            .values(status=DeliveryStatus.FAILED, claim=None, lease_until=None, due_at=None, error=CUT_OFF),
            {"time": self.time},
        )

    def settle(self, claim: Claim, outcome: Outcome) -> None:
        """Write down how a try went, unless it is somebody else's by now; plan the next one, or give up."""
        query = select(Delivery).where(Delivery.id == claim.delivery_id, Delivery.claim == claim.token)
        delivery = self.session.exec(query).first()
        subscription = self.session.get(Subscription, claim.subscription_id)
        if delivery is None or subscription is None:
            return
        delivery.claim = delivery.lease_until = delivery.due_at = None
        delivery.attempted_at = self.time
        delivery.response_status, delivery.response_body = outcome.status, outcome.text
        delivery.milliseconds, delivery.error = outcome.milliseconds, outcome.problem
        self.session.add(delivery)
        if outcome.problem is None:
            delivery.status = DeliveryStatus.DELIVERED
        elif delivery.attempts >= delivery.most_attempts:
            delivery.status = DeliveryStatus.FAILED
        else:
            delivery.due_at = self.time + wait_after(delivery.attempts)
        self.session.flush()
        if delivery.event != PING:
            self._count(subscription, delivery)

    def prune(self) -> int:
        """Forget deliveries that are older than they are kept, some at a time; how many it were."""
        old = select(Delivery.number).where(Delivery.created_at < self.time - KEPT_SECONDS).limit(MOST_PRUNED)
        gone = self.session.connection().execute(sa.delete(Delivery).where(col(Delivery.number).in_(old)))
        return int(gone.rowcount)

    def _tell(self, notice: Any, subscriptions: list[Subscription]) -> list[Subscription]:
        """One message, to each that hears of it."""
        message_id, data = new_message_id(), json.loads(notice.data)
        hearing = [subscription for subscription in subscriptions if _hears(subscription, notice)]
        for subscription in hearing:
            message = delivery_of(subscription, notice.event, data, at=notice.at, message_id=message_id)
            self.session.add(message)
        return hearing

    def _waiting(self, subscription: Subscription) -> int:
        pending = (
            Delivery.subscription_id == subscription.id,
            col(Delivery.status) == DeliveryStatus.PENDING,
        )
        return self.session.exec(select(sa.func.count()).select_from(Delivery).where(*pending)).one()

    def _count(self, subscription: Subscription, delivery: Delivery) -> None:
        """Failures in a row end a subscription, once a message has had all its tries among them.

        **Why** not the failures alone: a receiver that restarts while ten messages come would be given up
        within seconds.
        """
        if delivery.error is None:
            subscription.failures = 0
        else:
            subscription.failures += 1
        self.session.add(subscription)
        if delivery.response_status == GONE:
            disable(self.session, subscription, "the receiver answered 410: it wants no more")
        elif delivery.status == DeliveryStatus.FAILED and subscription.failures >= MOST_FAILURES:
            why = f"{subscription.failures} tries in a row failed; the last one: {delivery.error}"
            disable(self.session, subscription, why)


def wait_after(attempts: int) -> float:
    """Seconds until the next try: twice as long each time, at most twenty minutes, and never at one beat.

    Ten tries reach over some thirty to forty minutes.
    """
    wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (attempts - 1))
    return wait * random.uniform(0.75, 1.0)  # noqa: S311 - spreads load, guards nothing


def _hears(subscription: Subscription, notice: Any) -> bool:
    return (
        subscription.tenant_id == notice.tenant_id
        and notice.event in subscription.events
        and subscription.created_at <= notice.at
    )


def _columns(table: Any) -> list[Any]:
    return list(sa.inspect(table).local_table.columns)
