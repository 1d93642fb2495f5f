"""What is told becomes deliveries, each tried by one process at a time, until it is taken or given up."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.unit.webhooks.conftest import NEAR, Office
from tg_workbench.errors import DeliveryNotFound, Refused
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.outbox import Notice, Outbox, WebhookEvent
from tg_workbench.webhooks import (
    Deliveries,
    Delivery,
    DeliveryStatus,
    Subscription,
    Subscriptions,
    SubscriptionSpec,
)
from tg_workbench.webhooks import deliveries as deliveries_module
from tg_workbench.webhooks import queue as module
from tg_workbench.webhooks.courier import MOST_AT_ONCE
from tg_workbench.webhooks.deliveries import MOST_ATTEMPTS, delivery_of
from tg_workbench.webhooks.queue import Claim, DeliveryQueue, Outcome, wait_after

URL = "https://hooks.example/x"
BAD = Outcome("it answered 500", 500, "no", 1.0)
GOOD = Outcome(None, 204, "", 1.0)


def claim(office: Office, most: int = 32) -> list[Claim]:
    """Everything that is told and due."""
    with office.database.write() as session:
        queue = DeliveryQueue(session, office.clock())
        queue.fan_out()
        return queue.claim(most)


def settle(office: Office, claim: Claim, outcome: Outcome) -> None:
    with office.database.write() as session:
        DeliveryQueue(session, office.clock()).settle(claim, outcome)


def fail_for_good(office: Office) -> None:
    """Every try of what is due next."""
    for _ in range(module.MOST_FAILURES):
        (mine,) = claim(office)
        settle(office, mine, BAD)
        office.late += 1300


def change(office: Office, webhook: Subscription, **values: Any) -> None:
    with office.database.write() as session:
        Subscriptions(session, office.home, NEAR).update(
            LOCAL_PRINCIPAL, webhook.id, SubscriptionSpec(**values)
        )


def tell_as_it_is(office: Office, data: str) -> None:
    """A notice that no room of today would put there."""
    notice = Notice(tenant_id=LOCAL_PRINCIPAL.tenant_id, event="device.offline", data=data)
    with office.database.write() as session:
        session.add(notice)


def fill(
    office: Office, webhooks: int, waiting: int, *, of: str = LOCAL_PRINCIPAL.tenant_id
) -> list[Subscription]:
    """So many webhooks of a tenant, for each of which so many deliveries wait."""
    made = [office.subscribe(URL, of=of)[0] for _ in range(webhooks)]
    for webhook in made:
        wait_for(office, webhook, waiting)
    return made


def wait_for(office: Office, webhook: Subscription, waiting: int, **values: Any) -> None:
    rows = [
        delivery_of(webhook, "device.offline", {}, at=float(number), message_id=f"msg-{number}")
        for number in range(waiting)
    ]
    with office.database.write() as session:
        known = [row.model_dump(exclude={"number"}) | values for row in rows]
        session.connection().execute(sa.insert(Delivery), known)


def test_each_subscriber_of_the_event_gets_the_same_message(office: Office) -> None:
    both = [office.subscribe(URL)[0], office.subscribe(URL, ["device.offline"])[0]]
    other, _ = office.subscribe(URL, ["security.alert"])
    office.tell(WebhookEvent.DEVICE_OFFLINE, device_id="dev-1")
    assert len(claim(office)) == 2
    one, two = (office.deliveries(webhook)[0] for webhook in both)
    assert one.message_id == two.message_id
    assert one.id != two.id
    assert office.deliveries(other) == []


def test_the_outbox_is_empty_afterwards_also_where_nobody_listens(office: Office) -> None:
    office.tell()
    claim(office)
    with office.database.read() as session:
        assert session.exec(select(Notice)).all() == []
        assert not DeliveryQueue(session, office.clock()).has_work()


def test_what_happened_before_the_subscription_or_elsewhere_is_not_told(office: Office) -> None:
    office.tell()
    webhook, _ = office.subscribe(URL)
    with office.database.write() as session:
        Outbox(session).put("others", WebhookEvent.DEVICE_OFFLINE, {})
    assert claim(office) == []
    assert office.deliveries(webhook) == []


def test_two_processes_never_try_the_same_delivery(office: Office) -> None:
    office.subscribe(URL)
    office.tell()
    assert len(claim(office)) == 1
    assert claim(office) == []


def test_a_try_that_was_cut_off_is_made_again_and_its_late_word_does_not_count(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    (lost,) = claim(office)
    office.late += module.LEASE_SECONDS + 1
    (again,) = claim(office)
    settle(office, lost, GOOD)
    assert office.deliveries(webhook)[0].status == DeliveryStatus.PENDING
    settle(office, again, GOOD)
    assert office.deliveries(webhook)[0].status == DeliveryStatus.DELIVERED
    assert office.deliveries(webhook)[0].attempts == 2


def test_a_delivery_whose_last_try_was_cut_off_is_given_up(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    for _ in range(MOST_ATTEMPTS):
        assert len(claim(office)) == 1
        office.late += module.LEASE_SECONDS + 1
    assert claim(office) == []
    (delivery,) = office.deliveries(webhook)
    assert (delivery.status, delivery.error) == (DeliveryStatus.FAILED, module.CUT_OFF)


def test_a_subscription_has_one_try_at_a_time(office: Office) -> None:
    office.subscribe(URL)
    for _ in range(3):
        office.tell()
    (first,) = claim(office)
    assert claim(office) == []
    settle(office, first, GOOD)
    assert len(claim(office)) == 1


def test_a_failed_delivery_waits_longer_each_time_and_keeps_no_other_waiting(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    (first,) = claim(office)
    settle(office, first, BAD)
    assert claim(office) == []
    office.tell()
    (second,) = claim(office)
    assert second.delivery_id != first.delivery_id
    settle(office, second, GOOD)
    office.late += 6
    (again,) = claim(office)
    assert again.delivery_id == first.delivery_id
    assert office.subscription(webhook).failures == 0


def test_waits_grow_to_twenty_minutes_and_no_two_are_alike() -> None:
    waits = [wait_after(attempt) for attempt in range(1, 10)]
    assert 3.75 <= waits[0] <= 5
    assert 900 <= waits[8] <= 1200
    assert max(wait_after(40) for _ in range(50)) <= 1200
    assert waits == sorted(waits)
    assert wait_after(5) != wait_after(5)


def test_a_receiver_that_takes_nothing_ends_its_subscription_with_a_reason(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    fail_for_good(office)
    known = office.subscription(webhook)
    assert known.status == "disabled"
    assert known.reason == "10 tries in a row failed; the last one: it answered 500"
    office.tell()
    assert claim(office) == []
    assert [delivery.status for delivery in office.deliveries(webhook)] == ["failed"]


def test_a_burst_at_a_receiver_that_restarts_does_not_end_it(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    for _ in range(15):
        office.tell()
    for _ in range(15):
        (mine,) = claim(office)
        settle(office, mine, BAD)
    assert office.subscription(webhook).status == "active"
    assert office.subscription(webhook).failures == 15


def test_what_waits_for_a_disabled_one_is_cancelled_and_can_be_redelivered(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    office.tell()
    (going,) = claim(office)
    change(office, webhook, status="disabled")
    settle(office, going, GOOD)  # too late: it is cancelled already
    waited, _ = office.deliveries(webhook)
    assert waited.status == DeliveryStatus.CANCELLED
    with office.database.write() as session, pytest.raises(Refused, match="disabled"):
        Deliveries(session, office.subscription(webhook)).redeliver(waited.id)
    change(office, webhook, status="active")
    with office.database.write() as session:
        again = Deliveries(session, office.subscription(webhook)).redeliver(waited.id)
    assert (again.message_id, again.redelivery_of) == (waited.message_id, waited.id)
    assert [mine.delivery_id for mine in claim(office)] == [again.id]


def test_a_receiver_that_is_gone_is_sent_nothing_more(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    (mine,) = claim(office)
    settle(office, mine, Outcome("it answered 410", 410, "", 1.0))
    assert "410" in str(office.subscription(webhook).reason)


def test_a_ping_is_tried_once_and_counts_for_nothing(office: Office) -> None:
    webhook, _ = office.subscribe(URL, ["security.alert"])
    change(office, webhook, status="disabled")
    with office.database.write() as session:
        Deliveries(session, webhook).ping()
    (mine,) = claim(office)
    settle(office, mine, BAD)
    (delivery,) = office.deliveries(webhook)
    assert (delivery.event, delivery.status, delivery.attempts) == ("webhook.ping", "failed", 1)
    assert office.subscription(webhook).failures == 0


def test_a_receiver_that_falls_too_far_behind_is_disabled(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    webhook, _ = office.subscribe(URL)
    for _ in range(4):
        office.tell()
    assert claim(office) == []
    assert office.subscription(webhook).reason == "more than 3 messages were waiting for it"


def test_deliveries_are_kept_for_ninety_days(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    claim(office)
    for days, kept in ((89, 1), (91, 0)):
        office.late = days * 86_400
        with office.database.write() as session:
            DeliveryQueue(session, office.clock()).prune()
        assert len(office.deliveries(webhook)) == kept


def test_a_delivery_of_another_subscription_is_not_found(office: Office) -> None:
    one, _ = office.subscribe(URL)
    two, _ = office.subscribe(URL, ["security.alert"])
    office.tell()
    claim(office)
    (delivery,) = office.deliveries(one)
    with office.database.write() as session:
        with pytest.raises(DeliveryNotFound):
            Deliveries(session, two).get(delivery.id)
        with pytest.raises(Refused, match="being tried"):
            Deliveries(session, one).redeliver(delivery.id)


def test_a_deleted_subscription_takes_its_deliveries_along(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    (mine,) = claim(office)
    with office.database.write() as session:
        Subscriptions(session, office.home, NEAR).delete(LOCAL_PRINCIPAL, webhook.id)
    settle(office, mine, GOOD)
    assert office.deliveries(webhook) == []


def test_a_notice_of_before_that_holds_infinity_is_told_with_null(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    tell_as_it_is(office, '{"spent_epsilon": Infinity, "other": [NaN, -Infinity, 2]}')
    assert len(claim(office)) == 1
    (delivery,) = office.deliveries(webhook)
    assert json.loads(delivery.content)["data"] == {"spent_epsilon": None, "other": [None, None, 2]}


@pytest.mark.parametrize("poison", ["{", '{"spent": 1e999}', "[" * 100_000])
def test_a_notice_that_cannot_be_told_keeps_no_other_waiting(
    office: Office, poison: str, caplog: pytest.LogCaptureFixture
) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell(device_id="before")
    tell_as_it_is(office, poison)
    office.tell(device_id="after")
    with caplog.at_level(logging.ERROR):
        assert len(claim(office)) == 1
    told = [json.loads(delivery.content)["data"]["device_id"] for delivery in office.deliveries(webhook)]
    assert sorted(told) == ["after", "before"]
    assert "a notice cannot be told" in caplog.text
    assert poison not in caplog.text
    with office.database.read() as session:
        assert session.exec(select(Notice)).all() == []


def test_the_work_of_a_claim_does_not_grow_with_what_waits(office: Office) -> None:
    """Counted in SQLite's own instructions, thousands at a time."""

    def instructions() -> int:
        thousands = 0

        def count() -> int:
            nonlocal thousands
            thousands += 1
            return 0

        with office.database.write() as session:
            driver: Any = session.connection().connection.driver_connection
            driver.set_progress_handler(count, 1000)
            assert len(DeliveryQueue(session, office.clock()).claim(128)) == 20
            driver.set_progress_handler(None, 0)
        office.late += module.LEASE_SECONDS + 1
        return thousands

    made = fill(office, 20, 50)
    few = instructions()
    for webhook in made:
        wait_for(office, webhook, 500)
    assert instructions() <= few + 5
    assert few < 30


def test_while_all_receivers_of_eight_others_hang_a_message_finds_a_place(office: Office) -> None:
    for number in range(8):
        fill(office, 20, 2, of=f"other-{number}")
    free = MOST_AT_ONCE
    while taken := claim(office, free):
        free -= len(taken)
    assert free > 0
    (mine,) = fill(office, 1, 1)
    assert [found.subscription_id for found in claim(office, free)] == [mine.id]


def test_places_go_to_the_tenant_with_the_fewest_tries(office: Office) -> None:
    fill(office, 20, 2, of="many")
    assert len(claim(office, 8)) == 4
    few = fill(office, 2, 1, of="few")
    assert {found.subscription_id for found in claim(office, 4)} == {webhook.id for webhook in few}


def test_a_ping_is_refused_while_one_waits(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    with office.database.write() as session:
        Deliveries(session, webhook).ping()
        with pytest.raises(Refused, match="ping"):
            Deliveries(session, webhook).ping()
    (mine,) = claim(office)
    with office.database.write() as session, pytest.raises(Refused, match="ping"):
        Deliveries(session, webhook).ping()  # it is being tried
    settle(office, mine, GOOD)
    with office.database.write() as session:
        Deliveries(session, webhook).ping()


def test_nothing_is_asked_for_where_too_much_waits(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries_module, "MOST_WAITING", 3)
    webhook, _ = office.subscribe(URL)
    office.tell()
    (mine,) = claim(office)
    settle(office, mine, GOOD)
    (old,) = office.deliveries(webhook)
    with office.database.write() as session:
        deliveries = Deliveries(session, webhook)
        for _ in range(3):
            deliveries.redeliver(old.id)
        for ask in (deliveries.ping, lambda: deliveries.redeliver(old.id)):
            with pytest.raises(Refused, match="3 messages are waiting"):
                ask()
    assert office.subscription(webhook).status == "active"


def test_what_could_not_be_tried_here_counts_as_no_try(office: Office) -> None:
    webhook, _ = office.subscribe(URL)
    office.tell()
    for _ in range(MOST_ATTEMPTS + 1):
        (mine,) = claim(office)
        settle(office, mine, Outcome("no thread was free", tried=False))
        assert claim(office) == []
        office.late += module.FIRST_WAIT_SECONDS + 1
    (delivery,) = office.deliveries(webhook)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 0)
    assert office.subscription(webhook).failures == 0
