"""E-mail is tried until it is taken, given up in the end, and holds nothing private."""

from __future__ import annotations

import time

import pytest

from tests.mail_server import MailServer
from tests.unit.notifications.conftest import ALICE, BOB, House
from tg_workbench.identity import User
from tg_workbench.notifications import PostalRound, mails
from tg_workbench.notifications.mailbox import Mailbox
from tg_workbench.outbox import WebhookEvent

DONE = WebhookEvent.TRAINING_COMPLETED


class Clock:
    late = 0.0

    def __call__(self) -> float:
        return time.time() + self.late


def round_to(house: House, port: int, clock: Clock | None = None) -> PostalRound:
    mailbox = Mailbox.of(f"smtp://127.0.0.1:{port}", "workbench@example.org")
    return PostalRound(house.database, mailbox, clock or Clock())


def test_a_mail_holds_the_event_ids_states_and_epsilon_and_no_free_text(house: House) -> None:
    house.prefer(ALICE, training__completed=["email"])
    told = {"privacy": {"spent_epsilon": 2.5, "delta": 1e-5}, "name": "patients of Dr. Who", "rows": [1, 2]}
    house.tell(DONE, ALICE, job_id="job-1", status="completed", reason="a sentence of somebody", **told)
    with MailServer() as server:
        round_to(house, server.port).go()
        (message,) = server.messages
    assert (message["To"], message["From"]) == ("alice@example.org", "workbench@example.org")
    assert message["Subject"] == "[TG Workbench] training.completed"
    lines = message.get_content().splitlines()
    lines = lines[: lines.index("")]
    assert [line for line in lines if not line.startswith("time: ")] == [
        "event: training.completed",
        "job_id: job-1",
        "status: completed",
        "spent_epsilon: 2.5",
        "delta: 1e-05",
    ]
    assert house.mails() == []


def test_what_is_refused_is_tried_again_later_under_the_same_id(house: House) -> None:
    house.prefer(ALICE, training__completed=["email"])
    house.tell(DONE)
    clock = Clock()
    with MailServer() as server:
        courier = round_to(house, server.port, clock)
        server.replies = ["451 later"]
        courier.go()
        assert (server.messages, len(house.mails())) == ([], 1)
        courier.go()
        assert server.messages == []  # not due yet
        clock.late = mails.FIRST_WAIT_SECONDS + 1
        courier.go()
        (message,) = server.messages
    assert message["Message-ID"].endswith("@example.org>")
    assert house.mails() == []


def test_a_server_that_is_away_is_given_up_after_so_many_tries(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.prefer(ALICE, training__completed=["email"])
    house.tell(DONE)
    clock = Clock()
    for attempt in range(mails.MOST_ATTEMPTS):
        assert len(house.mails()) == 1, attempt
        round_to(house, 1, clock).go()
        clock.late += mails.LONGEST_WAIT_SECONDS
    assert house.mails() == []
    assert "given up after 8 tries: ConnectionRefusedError" in caplog.text


def test_so_many_wait_for_one_person_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mails, "MOST_WAITING", 3)
    house.prefer(ALICE, training__completed=["email"])
    for _ in range(5):
        house.tell(DONE)
    assert len(house.mails()) == 3


def test_what_is_being_sent_is_not_taken_by_another(house: House) -> None:
    house.prefer(ALICE, training__completed=["email"])
    house.tell(DONE)
    with house.database.write() as session:
        assert len(mails.Mails(session).take()) == 1
        assert mails.Mails(session).take() == []
        assert len(mails.Mails(session, time.time() + mails.LEASE_SECONDS + 1).take()) == 1


def test_one_that_cannot_be_written_holds_up_no_other_and_is_given_up(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An address that no e-mail can have, as one that came from elsewhere into the database."""
    with house.database.write() as session:
        alice = session.get_one(User, "alice")
        alice.email = "alice\n@example.org"
        session.add(alice)
    for who in (ALICE, BOB):
        house.prefer(who, training__completed=["email"])
        house.tell(DONE, who)
    clock = Clock()
    with MailServer() as server:
        for attempt in range(mails.MOST_ATTEMPTS):
            assert len(house.mails()) == (2 if attempt == 0 else 1)
            round_to(house, server.port, clock).go()
            clock.late += mails.LONGEST_WAIT_SECONDS
        (message,) = server.messages
    assert message["To"] == "bob@example.org"
    assert house.mails() == []
    assert "cannot be written: ValueError" in caplog.text
    assert "given up after 8 tries: ValueError" in caplog.text
    assert "@" not in caplog.text


def test_what_ends_whoever_sends_it_is_not_taken_for_ever(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.prefer(ALICE, training__completed=["email"])
    house.tell(DONE)
    late = time.time()
    for _ in range(mails.MOST_ATTEMPTS):
        with house.database.write() as session:
            assert len(mails.Mails(session, late).take()) == 1  # and it is never settled
        late += mails.LEASE_SECONDS + 1
    with house.database.write() as session:
        assert mails.Mails(session, late).take() == []
    assert house.mails() == []
    assert "none of 8 tries came to its end" in caplog.text
