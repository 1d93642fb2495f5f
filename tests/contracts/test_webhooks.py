"""Other systems hear of what happens here: signed, once or more, and never of what is private."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from tests.webhook_receiver import Received, Reply, WebhookReceiver, is_genuine
from tests.workbench_server import WorkbenchServer
from tg_workbench import DeliveryNotFound, InvalidRequest, Refused, WebhookNotFound, Workbench
from tg_workbench.outbox import NEVER_TOLD, WebhookEvent
from tg_workbench.sdk import Webhook, WebhookDelivery

ARCHITECTURE = {"input_shape": [4], "output_size": 2, "hidden_sizes": [8]}
EVENTS = tuple(event.value for event in WebhookEvent)


@pytest.fixture(scope="module")
def server() -> Iterator[WorkbenchServer]:
    """A workbench that may call this machine."""
    server = WorkbenchServer(TG_WEBHOOK_ALLOW_LOOPBACK="true")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def workbench(server: WorkbenchServer) -> Iterator[Workbench]:
    with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
        yield workbench


@pytest.fixture(scope="module")
def http(server: WorkbenchServer) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as opened:
        yield opened


@pytest.fixture
def webhook(workbench: Workbench, receiver: WebhookReceiver) -> Iterator[Webhook]:
    made = workbench.webhooks.create(receiver.url, EVENTS, description="all of it")
    yield made
    workbench.webhooks.delete(made)


def rows(seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(200, 4)).astype(np.float32)
    return {"features": features, "targets": (features.sum(axis=1) > 0).astype(np.int64)}


def named(received: Sequence[Received], event: str) -> list[dict[str, Any]]:
    return [request.json["data"] for request in received if request.json["event"] == event]


def has_heard(event: str, count: int = 1) -> Any:
    return lambda received: len(named(received, event)) >= count


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(names_in(member) for member in value.values()))
    return set().union(*(names_in(member) for member in value)) if isinstance(value, list) else set()


def numbers_in(value: Any) -> set[float]:
    if isinstance(value, dict | list):
        members = value.values() if isinstance(value, dict) else value
        return set().union(*(numbers_in(member) for member in members))
    return {float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else set()


def test_a_run_on_protected_data_is_told_from_start_to_end_and_nothing_private(
    workbench: Workbench, http: httpx.Client, receiver: WebhookReceiver, webhook: Webhook
) -> None:
    dataset = workbench.datasets.upload("patients of Dr Grey", **rows(1))
    client = workbench.create_training_client("mlp", dataset=dataset, target_epsilon=3, max_steps=40)
    run = client.train(steps=40, progress=False)
    run.result()
    received = receiver.until(has_heard("training.completed"))
    assert webhook.secret is not None
    assert all(is_genuine(request, webhook.secret) for request in received)

    (processed,) = named(received, "dataset.processed")
    assert processed == {
        "dataset_id": dataset.id,
        "status": "ready",
        "privacy": "protected",
        "format": processed["format"],
    }
    (started,) = named(received, "training.started")
    (completed,) = named(received, "training.completed")
    about = {"job_id": completed["job_id"], "model_id": client.id, "dataset_id": dataset.id}
    assert started == {**about, "status": "running", "total_steps": 40}
    progress = named(received, "training.progress")
    assert sorted(told["progress"] for told in progress) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert {told["progress"]: told["step"] for told in progress}[50] == 20
    assert completed["status"] == "completed"
    assert completed["accuracy"] is None
    assert completed["step"] == completed["steps_done"] == 40
    assert completed["privacy"]["guarantee"] == "differential_privacy"
    assert 0 < completed["privacy"]["spent_epsilon"] <= 3

    history = http.get(f"/workbench/v1/training_clients/{client.id}/history").json()["events"]
    losses = {loss for event in history for loss in event["data"].get("points", {}).get("loss", ()) if loss}
    assert len(losses) > 10
    assert all(math.isfinite(loss) for loss in losses)
    for request in received:
        assert names_in(request.json).isdisjoint(NEVER_TOLD)
        assert numbers_in(request.json).isdisjoint(losses)
        assert b"Grey" not in request.body
    client.terminate()


def test_a_run_that_is_stopped_or_refused_or_cancelled_is_told_as_that(
    workbench: Workbench, receiver: WebhookReceiver, webhook: Webhook
) -> None:
    dataset = workbench.datasets.upload("known", **rows(2), privacy="public")
    client = workbench.create_training_client("mlp", dataset=dataset)
    run = client.train(steps=1_000_000, progress=False)
    receiver.until(has_heard("training.started"))
    client.stop()
    run.result()
    (stopped,) = named(receiver.until(has_heard("training.completed")), "training.completed")
    assert (stopped["status"], stopped["reason"]) == ("stopped", "stopped")

    client.forward_backward(dataset=dataset).result()
    with pytest.raises(Refused):
        client.train(steps=2, progress=False).result()
    (refused,) = named(receiver.until(has_heard("training.failed")), "training.failed")
    assert (refused["status"], refused["error"]) == ("failed", "Refused")
    client.optim_step().result()

    client.train(steps=1_000_000, progress=False)
    receiver.until(has_heard("training.started", 2))
    client.terminate()
    failed = named(receiver.until(has_heard("training.failed", 2)), "training.failed")
    assert sorted(told["status"] for told in failed) == ["cancelled", "failed"]
    assert len(named(receiver.received, "training.started")) == 2


def test_what_happens_while_the_api_is_down_is_told_when_it_is_back(
    server: WorkbenchServer, workbench: Workbench, receiver: WebhookReceiver, webhook: Webhook
) -> None:
    dataset = workbench.datasets.upload("known too", **rows(3), privacy="public")
    client = workbench.create_training_client("mlp", dataset=dataset)
    client.train(steps=3000, progress=False)
    receiver.until(has_heard("training.started"))
    server.kill()
    server.restart()
    completed = receiver.until(has_heard("training.completed"), seconds=90)
    progress = {told["progress"] for told in named(completed, "training.progress")}
    receiver.until(
        lambda received: len({told["progress"] for told in named(received, "training.progress")}) == 10
    )
    assert progress <= set(range(10, 101, 10))
    client.terminate()


def until_it_ends(workbench: Workbench, webhook: Webhook, delivery: WebhookDelivery) -> WebhookDelivery:
    deadline = time.monotonic() + 60
    while (seen := workbench.webhooks.delivery(webhook, delivery)).status == "pending":
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
    return seen


def test_a_webhook_is_made_listed_changed_pinged_and_deleted(
    workbench: Workbench, receiver: WebhookReceiver
) -> None:
    webhooks = workbench.webhooks
    made = webhooks.create(receiver.url, ["device.offline", "security.alert"], description="on call")
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    assert made.secret not in repr(made)
    known = webhooks.get(made)
    assert (known.secret, known.url, known.status) == (None, receiver.url, "active")
    assert known.webhook_id in [listed.webhook_id for listed in webhooks.list()]

    ping = until_it_ends(workbench, made, webhooks.ping(made))
    assert (ping.status, ping.event, ping.response_status, ping.attempts) == (
        "delivered",
        "webhook.ping",
        204,
        1,
    )
    assert is_genuine(receiver.received[0], made.secret)
    again = until_it_ends(workbench, made, webhooks.redeliver(made, ping))
    assert (again.redelivery_of, again.message_id) == (ping.delivery_id, ping.message_id)
    assert [request.message_id for request in receiver.received] == [ping.message_id] * 2
    assert [delivery.delivery_id for delivery in webhooks.deliveries(made)] == [
        again.delivery_id,
        ping.delivery_id,
    ]
    assert webhooks.deliveries(made, status="failed") == []

    rotated = webhooks.rotate_secret(made)
    assert rotated.secret not in (None, made.secret)
    until_it_ends(workbench, made, webhooks.ping(made))
    assert is_genuine(receiver.received[2], str(rotated.secret))

    changed = webhooks.update(made, events=["training.failed"], active=False)
    assert (changed.events, changed.status, changed.reason) == (
        ["training.failed"],
        "disabled",
        "disabled by hand",
    )
    webhooks.delete(made)
    with pytest.raises(WebhookNotFound):
        webhooks.get(made)


def test_what_a_receiver_answers_is_in_the_log(workbench: Workbench) -> None:
    with WebhookReceiver(lambda _: Reply(500, b"out of\0 tea")) as receiver:
        made = workbench.webhooks.create(receiver.url, ["device.offline"])
        ping = until_it_ends(workbench, made, workbench.webhooks.ping(made))
    assert (ping.status, ping.response_status, ping.response_body) == ("failed", 500, "out of tea")
    assert ping.error == "it answered 500"
    assert (ping.duration_ms or 0) > 0
    with pytest.raises(DeliveryNotFound):
        workbench.webhooks.delivery(made, "whd-none")
    workbench.webhooks.delete(made)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "https://hooks.example/SECRET"},
        {"url": "https://hooks.example/SECRET", "events": []},
        {"url": "https://hooks.example/SECRET", "events": ["device.SECRET"]},
        {"url": "https://hooks.example/SECRET", "events": ["device.offline"], "secret": "SECRET"},
        {"url": "https://hooks.example/" + "SECRET" * 400, "events": ["device.offline"]},
        {"url": "https://me:SECRET@hooks.example/", "events": ["device.offline"]},
        {"url": "https://10.0.0.1/SECRET", "events": ["device.offline"]},
        {"url": "ftp://hooks.example/SECRET", "events": ["device.offline"]},
        {"url": "https://hooks.example:22/SECRET", "events": ["device.offline"]},
        {"url": "https://hooks.example/\r\nX-SECRET: 1", "events": ["device.offline"]},
        {"url": 5, "events": "device.offline"},
        {"url": "https://hooks.example/", "events": ["device.offline"], "description": "SECRET" * 100},
    ],
)
def test_bad_input_is_refused_and_not_repeated(http: httpx.Client, body: dict[str, Any]) -> None:
    answer = http.post("/workbench/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")
    assert "SECRET" not in answer.text


def test_the_twenty_first_webhook_is_refused(workbench: Workbench, http: httpx.Client) -> None:
    made: list[str] = []
    while len(made) < 21:
        body = {"url": "https://hooks.example/", "events": ["device.offline"]}
        answer = http.post("/workbench/v1/webhooks", json=body)
        if answer.status_code != 201:
            break
        made.append(answer.json()["webhook_id"])
    assert (answer.status_code, answer.json()["error"]["details"]["kind"]) == (409, "TooManyWebhooks")
    assert len(made) == 20
    for webhook_id in made:
        workbench.webhooks.delete(webhook_id)


def test_a_workbench_that_may_not_call_itself_refuses_its_own_address(api: httpx.Client) -> None:
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433"):
        body = {"url": f"http://{host}:8000/hook", "events": ["device.offline"]}
        answer = api.post("/workbench/v1/webhooks", json=body)
        assert answer.status_code == 422
        assert "not a public one" in answer.json()["error"]["message"]


def test_what_a_url_may_hold_of_a_secret_is_not_told_again(
    workbench: Workbench, receiver: WebhookReceiver
) -> None:
    made = workbench.webhooks.create(receiver.url + "?token=tea", ["device.offline"])
    assert made.url == receiver.url + "?…"
    assert workbench.webhooks.get(made).url == made.url
    with pytest.raises(InvalidRequest):  # so that it cannot be put back by mistake
        workbench.webhooks.update(made, url=made.url)
    until_it_ends(workbench, made, workbench.webhooks.ping(made))
    assert receiver.paths == ["/hook?token=tea"]
    workbench.webhooks.delete(made)


def test_a_second_ping_is_refused_while_one_waits(workbench: Workbench) -> None:
    with WebhookReceiver(lambda _: Reply(seconds=60)) as receiver:
        made = workbench.webhooks.create(receiver.url, ["device.offline"])
        workbench.webhooks.ping(made)
        with pytest.raises(Refused, match="ping"):
            workbench.webhooks.ping(made)
    workbench.webhooks.delete(made)


def test_no_log_holds_a_secret_or_a_url(server: WorkbenchServer, workbench: Workbench) -> None:
    with WebhookReceiver() as receiver:
        made = workbench.webhooks.create(receiver.url + "?token=tea-and-biscuits", ["device.offline"])
        until_it_ends(workbench, made, workbench.webhooks.ping(made))
        workbench.webhooks.delete(made)
    text = server.log.read_text()
    assert "tea-and-biscuits" not in text
    assert str(made.secret) not in text
    assert "/hook" not in text
