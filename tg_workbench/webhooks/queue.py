"""The delivery queue: notices become deliveries, deliveries are claimed, and how each try went is kept.

A claim is a lease: whoever holds it may try once, and writes down how that went only while it is still the
one. A process that ends in the middle leaves a lease that runs out, and another try is made; so a message
comes at least once, and two processes never try the same one at once.

One try at a time for each subscription: a receiver that hangs keeps its own messages waiting, nobody else's.
Places go to the organisation that has the fewest, and none takes more than are left for the others: however
many receivers of one hang, another's message finds a place.

**Why** the indexes: a claim happens under the lock of all that write. Of 20 subscriptions for each of which
5,000 messages wait it takes 2 ms (SQLite, two cores): it looks at the head of each, never at what is behind.
"""

from __future__ import annotations

import json
import logging
import random
import uuid
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.outbox import Notice
from tg_workbench.storage.statements import Statement
from tg_workbench.webhooks.deliveries import (
    MOST_ATTEMPTS,
    MOST_WAITING,
    PING,
    delivery_of,
    new_message_id,
    waiting_for,
)
from tg_workbench.webhooks.subscriptions import disable
from tg_workbench.webhooks.tables import Delivery, DeliveryStatus, Subscription

log = logging.getLogger(__name__)
LEASE_SECONDS = 30.0
"""Three times what a try may take."""
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 1200.0
MOST_FAILURES = MOST_ATTEMPTS
KEPT_SECONDS = 90 * 86_400.0
MOST_NOTICES = 20
"""So many at one look: with 20 subscribers to each they are 400 messages."""
MOST_PRUNED = 1000
GONE = 410
CUT_OFF = "the workbench ended during the last try"

Announce = Callable[[Session, Sequence[Any]], Mapping[int, Container[str]]]
"""Tells people of notices; whose own webhooks hear of each, by the notice's id."""

_TIME = sa.bindparam("time", type_=sa.Float)
_PENDING = col(Delivery.status) == DeliveryStatus.PENDING.value
_DUE = sa.and_(
    _PENDING,
    col(Delivery.due_at) <= _TIME,
    sa.or_(col(Delivery.lease_until).is_(None), col(Delivery.lease_until) <= _TIME),
)
_ANYTHING = Statement(sa.select(sa.or_(sa.exists().where(col(Notice.id) > 0), sa.exists().where(_DUE))))
_TRIED_NOW = (
    sa.select(col(Subscription.id), col(Subscription.tenant_id))
    .join(Delivery, col(Delivery.subscription_id) == col(Subscription.id))
    .where(_PENDING, col(Delivery.lease_until) > _TIME)
)
_NEXT = (
    sa.select(col(Delivery.number))
    .where(col(Delivery.subscription_id) == col(Subscription.id), _PENDING, col(Delivery.due_at) <= _TIME)
    .order_by(col(Delivery.due_at), col(Delivery.number))
    .limit(1)
    .correlate(Subscription)
    .scalar_subquery()
)
_HEADS = sa.select(
    col(Subscription.id), col(Subscription.tenant_id), col(Delivery.number), col(Delivery.due_at)
).join(Delivery, col(Delivery.number) == _NEXT)
"""Of each subscription what has been due the longest; whether a try of it is going on is not looked at."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to try one delivery once."""

    delivery_id: str
    subscription_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try went: delivered, or `problem` says why not. What was not `tried` never left: it is no try."""

    problem: str | None = None
    status: int | None = None
    text: str | None = None
    milliseconds: float | None = None
    tried: bool = True


class DeliveryQueue:
    """What waits to be delivered. `time` is the moment at which it is looked at."""

    def __init__(self, session: Session, time: float) -> None:
        self.session = session
        self.time = time

    def has_work(self) -> bool:
        """Whether there is anything to do. One quick look; nothing is written."""
        return bool(_ANYTHING.value(self.session, time=self.time))

    def fan_out(self, announce: Announce | None = None) -> int:
        """Take notices out of the outbox and make a delivery for each subscriber; how many notices it were.

        `announce` tells people of them in the same transaction. Whoever subscribed after something happened
        does not hear of it. A notice that cannot be told is left out, and the log says which.
        """
        oldest = select(Notice.id).order_by(col(Notice.id)).limit(MOST_NOTICES)
        taken = sa.delete(Notice).where(col(Notice.id).in_(oldest)).returning(*_columns(Notice))
        notices = sorted(self.session.connection().execute(taken).all(), key=lambda notice: notice.id)
        if not notices:
            return 0
        hearers = announce(self.session, notices) if announce is not None else {}
        active = select(Subscription).where(
            col(Subscription.tenant_id).in_({notice.tenant_id for notice in notices}),
            Subscription.status == "active",
        )
        subscriptions = list(self.session.exec(active))
        messages = [
            message
            for notice in notices
            for message in _messages(notice, [one for one in subscriptions if _hears(one, notice, hearers)])
        ]
        if messages:
            rows = [message.model_dump(exclude={"number"}) for message in messages]
            self.session.connection().execute(sa.insert(Delivery), rows)
        hearing = {message.subscription_id for message in messages}
        for subscription in subscriptions:
            if subscription.id in hearing and waiting_for(self.session, subscription) > MOST_WAITING:
                disable(self.session, subscription, f"more than {MOST_WAITING} messages were waiting for it")
        return len(notices)

    def claim(self, most: int) -> list[Claim]:
        """The right to try what is due: of each subscription that has no try going on, the oldest."""
        self._give_up()
        connection, time = self.session.connection(), {"time": self.time}
        tried = connection.execute(_TRIED_NOW, time).all()
        busy, running = {row.id for row in tried}, Counter(row.tenant_id for row in tried)
        heads = [head for head in connection.execute(_HEADS, time).all() if head.id not in busy]
        token = uuid.uuid4().hex
        claimed = (
            sa.update(Delivery)
            .where(col(Delivery.number).in_(_shared_out(heads, running, most)))
            .values(claim=token, lease_until=self.time + LEASE_SECONDS, attempts=col(Delivery.attempts) + 1)
            .returning(col(Delivery.id), col(Delivery.subscription_id))
        )
        rows = connection.execute(claimed).all()
        return [Claim(row.id, row.subscription_id, token) for row in rows]

    def _give_up(self) -> None:
        """What was cut off in its last try gets no other one."""
        last = col(Delivery.attempts) >= col(Delivery.most_attempts)
        self.session.connection().execute(
            sa.update(Delivery)
            .where(_PENDING, col(Delivery.lease_until) <= _TIME, last)
            .values(status=DeliveryStatus.FAILED, claim=None, lease_until=None, due_at=None, error=CUT_OFF),
            {"time": self.time},
        )

    def put_back(self, claims: Sequence[Claim], *, seconds: float = 0.0) -> None:
        """These were not tried after all: it counts as no try, and they are due again after `seconds`."""
        connection = self.session.connection()
        for claim in claims:
            mine = (col(Delivery.id) == claim.delivery_id, col(Delivery.claim) == claim.token)
            connection.execute(
                sa.update(Delivery)
                .where(*mine)
                .values(
                    claim=None,
                    lease_until=None,
                    due_at=self.time + seconds,
                    attempts=col(Delivery.attempts) - 1,
                )
            )

    def settle(self, claim: Claim, outcome: Outcome) -> None:
        """Write down how a try went, unless it is somebody else's by now; plan the next one, or give up."""
        if not outcome.tried:
            self.put_back([claim], seconds=FIRST_WAIT_SECONDS)
            return
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


def _shared_out(heads: Sequence[Any], running: Counter[str], most: int) -> list[int]:
    """The numbers of those that are tried now, at most so many, where `running` tries are each tenant's."""
    shares, ranked = Counter(running), []
    for head in sorted(heads, key=lambda head: head.due_at):
        ranked.append((shares[head.tenant_id], head.due_at, head.number))
        shares[head.tenant_id] += 1
    chosen: list[int] = []
    for share, _, number in sorted(ranked):
        if share >= most - len(chosen):  # the others' tenants may come a moment later
            break
        chosen.append(number)
    return chosen


def _messages(notice: Any, subscriptions: Sequence[Subscription]) -> list[Delivery]:
    """One message, to each that hears of it; none where it cannot be told."""
    message_id = new_message_id()
    try:
        data = json.loads(notice.data, parse_constant=lambda _: None)
        return [
            delivery_of(subscription, notice.event, data, at=notice.at, message_id=message_id)
            for subscription in subscriptions
        ]
    except (ValueError, OverflowError, OSError, RecursionError) as failure:
        log.error("a notice cannot be told: %s %s, %s", notice.event, notice.id, type(failure).__name__)
        return []


def _hears(subscription: Subscription, notice: Any, hearers: Mapping[int, Container[str]]) -> bool:
    return (
        subscription.tenant_id == notice.tenant_id
        and notice.event in subscription.events
        and subscription.created_at <= notice.at
        and (not subscription.personal or subscription.owner_id in hearers.get(notice.id, ()))
    )


def _columns(table: Any) -> list[Any]:
    return list(sa.inspect(table).local_table.columns)
