"""The courier delivers everything at least once, to real receivers, whatever some of them do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.webhooks.conftest import Office, by_message
from tests.webhook_receiver import Reply, WebhookReceiver, is_genuine
from tg_workbench.outbox import WebhookEvent
from tg_workbench.webhooks import PING, Courier, Deliveries, DeliveryStatus, Subscription, courier, queue
from tg_workbench.webhooks import postman as postman_module
from tg_workbench.webhooks.deliveries import delivery_of


def deliver(office: Office, wanted: Callable[[], bool], *couriers: Courier, seconds: float = 30) -> None:
    """Let couriers work until it is as wanted."""

    async def go() -> None:
        working = [asyncio.create_task(courier.run()) for courier in couriers or (office.courier(),)]
        deadline = time.monotonic() + seconds
        while not wanted() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    asyncio.run(go())
    assert wanted()


def all_of(office: Office, webhook: Subscription, status: str = "delivered") -> Callable[[], bool]:
    def reached() -> bool:
        deliveries = office.deliveries(webhook)
        return bool(deliveries) and all(delivery.status == status for delivery in deliveries)

    return reached


def test_a_message_arrives_signed_in_the_form_of_both_documents(office: Office) -> None:
    with WebhookReceiver() as receiver:
        webhook, secret = office.subscribe(receiver.url)
        office.tell(WebhookEvent.TRAINING_COMPLETED, job_id="fut-1", model_id="tc-1", accuracy=None)
        deliver(office, all_of(office, webhook))
    (request,) = receiver.received
    assert is_genuine(request, secret)
    body = request.json
    assert body.keys() == {"event", "timestamp", "data", "id", "webhook_id", "signature"}
    assert (body["event"], body["webhook_id"]) == ("training.completed", webhook.id)
    assert body["data"] == {"job_id": "fut-1", "model_id": "tc-1", "accuracy": None}
    assert body["id"] == request.message_id
    (delivery,) = office.deliveries(webhook)
    assert (delivery.response_status, delivery.attempts, delivery.error) == (204, 1, None)


def test_a_receiver_that_fails_half_the_time_gets_every_message(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "FIRST_WAIT_SECONDS", 0.01)
    with WebhookReceiver(lambda n: Reply(500 if n % 2 else 204)) as receiver:
        webhook, secret = office.subscribe(receiver.url)
        for number in range(20):
            office.tell(device_id=f"dev-{number}")
        deliver(office, all_of(office, webhook))
    messages = by_message(receiver.received)
    told = {requests[0].json["data"]["device_id"] for requests in messages.values()}
    assert told == {f"dev-{number}" for number in range(20)}
    assert len(receiver.received) > 20
    assert all(is_genuine(request, secret) for request in receiver.received)
    assert all(len({request.body for request in requests}) == 1 for requests in messages.values())
    assert office.subscription(webhook).status == "active"


def test_a_receiver_that_hangs_keeps_nobody_else_waiting(office: Office) -> None:
    with (
        WebhookReceiver(lambda _: Reply(seconds=60)) as hanging,
        WebhookReceiver() as quick,
    ):
        for _ in range(10):
            office.subscribe(hanging.url)
        webhook, _ = office.subscribe(quick.url)
        for _ in range(10):
            office.tell()
        began = time.monotonic()
        deliver(office, lambda: len(quick.received) == 10 and all_of(office, webhook)())
        assert time.monotonic() - began < postman_module.SECONDS, "so long a try at the hanging ones takes"
        hanging.until(lambda received: len(received) == 10)  # one try each: their own messages wait behind


def test_the_event_loop_waits_for_no_lock(office: Office) -> None:
    with WebhookReceiver() as receiver:
        webhook, _ = office.subscribe(receiver.url)
        office.tell()

        async def longest_pause() -> float:
            working = asyncio.create_task(office.courier().run())
            longest = 0.0
            with office.database.write():
                ends = time.monotonic() + 4
                while (began := time.monotonic()) < ends:
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.monotonic() - began)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            return longest

        assert asyncio.run(longest_pause()) < 2
        deliver(office, all_of(office, webhook))


def test_trouble_with_the_outbox_keeps_no_delivery_waiting(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with WebhookReceiver() as receiver:
        webhook, _ = office.subscribe(receiver.url)
        with office.database.write() as session:
            Deliveries(session, webhook).ping()
            session.connection().exec_driver_sql("ALTER TABLE outbox RENAME COLUMN event TO was_event")
        deliver(office, all_of(office, webhook))
    assert caplog.text.count("webhooks wait: telling") == 1


def test_what_is_old_is_forgotten_until_none_is_left(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_PRUNED", 2)
    monkeypatch.setattr(courier, "MOST_PRUNED", 2)
    webhook, _ = office.subscribe("https://hooks.example/x")
    for _ in range(7):
        with office.database.write() as session:
            session.add(delivery_of(webhook, PING, {}, at=0.0, message_id="msg-1"))
    office.late += queue.KEPT_SECONDS + 1
    deliver(office, lambda: not office.deliveries(webhook))


def test_two_couriers_share_the_work_and_deliver_nothing_twice(office: Office) -> None:
    with WebhookReceiver() as receiver:
        webhook, _ = office.subscribe(receiver.url)
        for _ in range(30):
            office.tell()
        couriers = office.courier(), office.courier()
        deliver(
            office, lambda: len(office.deliveries(webhook)) == 30 and all_of(office, webhook)(), *couriers
        )
    assert sorted(len(requests) for requests in by_message(receiver.received).values()) == [1] * 30


def test_a_courier_that_is_stopped_in_the_middle_loses_nothing(office: Office) -> None:
    with WebhookReceiver(lambda n: Reply(seconds=60 if n == 1 else 0)) as receiver:
        webhook, _ = office.subscribe(receiver.url)
        office.tell()
        deliver(office, lambda: len(receiver.received) == 1)
        assert office.deliveries(webhook)[0].status == DeliveryStatus.PENDING
        office.late += queue.LEASE_SECONDS + 1
        deliver(office, all_of(office, webhook))
    assert len(by_message(receiver.received)) == 1
    assert len(receiver.received) == 2


def test_a_late_answer_is_a_failed_try_that_is_said_so(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postman_module, "SECONDS", 0.2)
    with WebhookReceiver(lambda _: Reply(seconds=60)) as receiver:
        webhook, _ = office.subscribe(receiver.url)
        office.tell()
        deliver(office, lambda: any(delivery.error for delivery in office.deliveries(webhook)))
    (delivery,) = office.deliveries(webhook)
    assert (delivery.status, delivery.error) == ("pending", postman_module.TOO_LATE)
    assert delivery.due_at is not None


def test_the_log_holds_the_start_of_an_answer_and_never_a_secret(office: Office) -> None:
    with WebhookReceiver(lambda _: Reply(503, b"b\0usy" + b"!" * 9000)) as receiver:
        webhook, secret = office.subscribe(receiver.url)
        office.tell()
        deliver(office, lambda: any(delivery.error for delivery in office.deliveries(webhook)))
    (delivery,) = office.deliveries(webhook)
    assert delivery.response_status == 503
    assert str(delivery.response_body).startswith("busy!")
    assert len(str(delivery.response_body)) <= 2048
    assert secret not in repr(delivery.model_dump())
    assert secret[6:] not in repr(delivery.model_dump())


def test_a_secret_that_cannot_be_opened_is_a_failed_try(office: Office, tmp_path: Path) -> None:
    with WebhookReceiver() as receiver:
        webhook, _ = office.subscribe(receiver.url)
        (tmp_path / "keys" / "key-encryption-keys.json").unlink()
        office.tell()
        deliver(office, lambda: any(delivery.error for delivery in office.deliveries(webhook)))
    assert office.deliveries(webhook)[0].error == "its secret cannot be opened"
    assert receiver.connections == 0
