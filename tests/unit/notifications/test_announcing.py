"""What happens reaches those it concerns, by the channels they chose, and nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col

from tests.unit.notifications.conftest import ALICE, BOB, House
from tg_workbench.datasets import Dataset
from tg_workbench.errors import MailUnavailable, NotificationNotFound
from tg_workbench.identity import LOCAL_PRINCIPAL, Membership
from tg_workbench.notifications import Inbox, Preferences, inbox
from tg_workbench.outbox import WebhookEvent

DONE = WebhookEvent.TRAINING_COMPLETED


def test_what_is_somebodys_own_is_told_to_them_alone(house: House) -> None:
    assert house.tell(DONE, BOB, job_id="job-1") == {BOB.id}
    (told,) = house.inbox(BOB)
    assert (told.kind, json.loads(told.data), told.read_at) == (
        "training.completed",
        {"job_id": "job-1"},
        None,
    )
    assert house.inbox(ALICE) == []


def test_what_concerns_all_is_told_to_those_who_look_after_the_organisation(house: House) -> None:
    assert house.tell(WebhookEvent.SECURITY_ALERT, None, rule="disk", state="firing") == {ALICE.id}
    assert [told.kind for told in house.inbox(ALICE)] == ["security.alert"]
    assert house.inbox(BOB) == []


def test_a_budget_near_its_cap_is_told_to_the_datasets_owner_under_a_name_of_its_own(house: House) -> None:
    with house.database.write() as session:
        session.add(
            Dataset(
                id="ds-1", owner_id=BOB.id, tenant_id="acme", name="x", privacy="protected", format="rows",
                size=1, blob="", population="ds-1", delta=1e-5, epsilon_cap=1.0,
            )
        )  # fmt: skip
    house.tell(WebhookEvent.SECURITY_ALERT, None, rule="budget_near_cap", subject="ds-1", value=0.9)
    assert [told.kind for told in house.inbox(BOB)] == ["privacy.budget_near_cap"]
    assert house.inbox(ALICE) == []


@pytest.mark.parametrize(
    ("channels", "reached"),
    [
        ([], (0, 0, set())),
        (["in_app"], (1, 0, set())),
        (["email"], (0, 1, set())),
        (["webhook"], (0, 0, {BOB.id})),
    ],
    ids=["none", "in_app", "email", "webhook"],
)
def test_each_channel_is_chosen_by_itself(house: House, channels: list[str], reached: Any) -> None:
    house.prefer(BOB, training__completed=channels)
    heard = house.tell(DONE, BOB)
    assert (len(house.inbox(BOB)), len(house.mails()), heard) == reached


def test_progress_is_not_put_into_the_inbox_unless_somebody_asks_for_it(house: House) -> None:
    house.tell(WebhookEvent.TRAINING_PROGRESS)
    assert house.inbox(ALICE) == []
    house.prefer(ALICE, training__progress=["in_app"])
    house.tell(WebhookEvent.TRAINING_PROGRESS)
    assert len(house.inbox(ALICE)) == 1


def test_what_was_not_chosen_anew_stays_as_it_was(house: House) -> None:
    house.prefer(ALICE, training__failed=["email"])
    house.prefer(ALICE, training__completed=[])
    with house.database.read() as session:
        assert Preferences(session).of(ALICE.id)["training.failed"] == {"email"}
        assert Preferences(session).of(BOB.id)["training.failed"] == {"in_app", "webhook"}


def test_email_is_refused_where_it_could_not_arrive(house: House) -> None:
    wanted = {"training.completed": ["email"]}
    with house.database.write() as session:
        with pytest.raises(MailUnavailable, match="TG_SMTP_URL"):
            Preferences(session).change(ALICE, wanted)
        with pytest.raises(MailUnavailable, match="no e-mail address"):
            Preferences(session, can_mail=True).change(LOCAL_PRINCIPAL, wanted)


def test_somebody_reads_their_own_once(house: House) -> None:
    for _ in range(3):
        house.tell(DONE)
    first = house.inbox(ALICE)[-1]
    with house.database.write() as session:
        with pytest.raises(NotificationNotFound):
            Inbox(session).read(BOB, first.id)
        when = Inbox(session).read(ALICE, first.id).read_at
        assert Inbox(session).read(ALICE, first.id).read_at == when
        assert Inbox(session).read_all(BOB) == 0
        assert Inbox(session).read_all(ALICE) == 2
    assert house.inbox(ALICE, unread=True) == []
    assert len(house.inbox(ALICE, unread=False)) == 3


def test_the_newest_are_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MOST_KEPT", 5)
    for number in range(8):
        house.tell(DONE, ALICE, step=number)
        house.tell(DONE, BOB)
    assert [json.loads(told.data)["step"] for told in house.inbox(ALICE)] == [7, 6, 5, 4, 3]


def test_what_is_old_is_forgotten(house: House) -> None:
    house.tell(DONE)
    with house.database.write() as session:
        session.connection().execute(sa.text("UPDATE notifications SET at = 0"))
    house.tell(DONE)
    assert len(house.inbox(ALICE)) == 1


def test_whoever_has_left_looks_after_nothing(house: House) -> None:
    with house.database.write() as session:
        session.connection().execute(
            sa.update(Membership).where(col(Membership.id) == ALICE.id).values(ended_at=1.0)
        )
    assert house.tell(WebhookEvent.SECURITY_ALERT, None, rule="disk") == set()
