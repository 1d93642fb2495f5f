"""People are told of what is theirs, where they asked for it: in the workbench, by webhook, by e-mail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.contracts.envelopes import refusal
from tests.contracts.people import People, Person
from tests.mail_server import MailServer
from tests.webhook_receiver import WebhookReceiver
from tests.workbench_server import WorkbenchServer

SECRET = "hush-hush-mail"
CHOOSE = "/api/notifications/preferences"
OURS = "/workbench/v1/notifications"


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def server(mail: MailServer) -> Iterator[WorkbenchServer]:
    """A workbench that sends e-mail, and may call this machine."""
    server = WorkbenchServer(
        TG_SMTP_URL=f"smtp://127.0.0.1:{mail.port}",
        TG_SMTP_FROM="workbench@example.org",
        TG_WEBHOOK_ALLOW_LOOPBACK="true",
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def people(server: WorkbenchServer) -> Iterator[People]:
    found = People(server)
    yield found
    found.close()


@pytest.fixture
def dora(people: People) -> Person:
    return people.register("dora")


def hand_over(person: Person) -> str:
    """Something that is told of: a dataset."""
    answer = person.http.post(
        "/workbench/v1/datasets", json={"name": "letters", "texts": ["dear diary"] * 50}
    )
    return str(answer.json()["dataset_id"])


def choose(person: Person, **channels: list[str]) -> httpx.Response:
    wanted = {name.replace("__", "."): chosen for name, chosen in channels.items()}
    return person.http.post(CHOOSE, json={"preferences": wanted})


def told(person: Person, wanted: Callable[[list[Any]], bool], **query: Any) -> list[Any]:
    """What somebody was told, once it is as wanted."""
    deadline = time.monotonic() + 20
    while not wanted(found := person.http.get(OURS, params=query).json()["notifications"]):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_what_is_done_is_in_the_inbox_until_it_is_read(dora: Person) -> None:
    dataset = hand_over(dora)
    (note,) = told(dora, bool, unread=True)
    assert (note["event"], note["data"]["dataset_id"], note["read_at"]) == (
        "dataset.processed",
        dataset,
        None,
    )
    read = dora.http.post(f"{OURS}/{note['notification_id']}/read")
    assert read.json()["read_at"] is not None
    assert dora.http.get(OURS, params={"unread": True}).json()["total"] == 0
    hand_over(dora)
    told(dora, bool, unread=True)
    assert dora.http.post(f"{OURS}/read_all").json() == {"read": 1}


@pytest.mark.operation("S4-12")
def test_preferences_are_set_and_read_back(dora: Person) -> None:
    answer = choose(dora, training__completed=["email", "in_app"], training__failed=[])
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    read = dora.http.get(f"{OURS}/preferences").json()
    assert read["email_available"] is True
    assert read["preferences"]["training.completed"] == ["in_app", "email"]
    assert read["preferences"]["training.failed"] == []
    assert read["preferences"]["security.alert"] == ["in_app", "webhook"]


@pytest.mark.operation("S4-12")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"preferences": {}},
        {"preferences": {"tea.ready": ["in_app"]}},
        {"preferences": {"security.alert": ["fax"]}},
    ],
    ids=["nothing", "none", "unknown event", "unknown channel"],
)
def test_a_choice_that_cannot_be_made_is_400(dora: Person, body: Any) -> None:
    assert refusal(dora.http.post(CHOOSE, json=body), "coordination").status == 400


@pytest.mark.operation("S4-12")
def test_email_where_none_is_sent_is_refused_and_nothing_is_chosen(api: httpx.Client) -> None:
    wanted = {"preferences": {"training.failed": [], "training.completed": ["email"]}}
    said = refusal(api.post(CHOOSE, json=wanted), "coordination")
    assert (said.status, "TG_SMTP_URL" in said.message) == (400, True)
    read = api.get(f"{OURS}/preferences").json()
    assert read["email_available"] is False
    assert read["preferences"]["training.failed"] == ["in_app", "webhook"]


def test_a_mail_goes_to_the_address_of_whoever_chose_it(dora: Person, mail: MailServer) -> None:
    choose(dora, dataset__processed=["email"])
    dataset = hand_over(dora)
    message = next(one for one in mail.until(lambda all_: any(dora.email in one["To"] for one in all_)))
    assert f"dataset_id: {dataset}" in message.get_content()
    assert "letters" not in str(message)
    assert dora.http.get(OURS).json()["total"] == 0


def test_ones_own_webhook_follows_ones_preferences_and_the_organisations_does_not(
    people: People, dora: Person
) -> None:
    emil = people.invite(dora, "emil")
    with WebhookReceiver() as own, WebhookReceiver() as all_:
        for receiver, personal in ((own, True), (all_, False)):
            body = {"url": receiver.url, "events": ["dataset.processed"], "personal": personal}
            made = dora.http.post("/workbench/v1/webhooks", json=body)
            assert (made.status_code, made.json()["personal"]) == (201, personal)
        by_emil, heard = hand_over(emil), hand_over(dora)
        own.until(lambda found: len(found) >= 1)
        choose(dora, dataset__processed=["in_app"])
        silent = hand_over(dora)
        all_.until(lambda found: len(found) >= 3)
        assert {one.json["data"]["dataset_id"] for one in all_.received} == {by_emil, heard, silent}
        assert [one.json["data"]["dataset_id"] for one in own.received] == [heard]


def test_nobody_reads_what_another_was_told(people: People, dora: Person) -> None:
    hand_over(dora)
    (note,) = told(dora, bool)
    emil = people.invite(dora, "emil")
    assert emil.http.get(OURS).json()["total"] == 0
    assert emil.http.post(f"{OURS}/{note['notification_id']}/read").status_code == 404
