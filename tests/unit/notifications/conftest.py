"""A database with people in it, and what the rooms would tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from tg_workbench.identity import Membership, Principal, User
from tg_workbench.notifications import Inbox, Mail, Notification, Preferences, announce
from tg_workbench.outbox import Notice, Outbox, WebhookEvent
from tg_workbench.storage import Database

ALICE = Principal("mem_alice", "acme", frozenset({"read", "train"}))
BOB = Principal("mem_bob", "acme", frozenset({"read"}))


class House:
    """One organisation: Alice owns it, Bob is a member."""

    def __init__(self, home: Path) -> None:
        self.database = Database(f"sqlite:///{home / 'test.db'}")
        self.database.migrate()
        with self.database.write() as session:
            for who, role in ((ALICE, "owner"), (BOB, "member")):
                name = who.id.removeprefix("mem_")
                address = f"{name}@example.org"
                user = User(id=name, username=name, username_key=name, email=address, email_key=address)
                place = Membership(id=who.id, user_id=name, organization_id="acme", role=role)
                session.add_all([user, place])

    def tell(self, event: WebhookEvent, owner: Principal | None = ALICE, **data: Any) -> set[str]:
        """Announce one event; whose own webhooks hear of it."""
        with self.database.write() as session:
            Outbox(session).put("acme", event, data, owner_id=None if owner is None else owner.id)
            notices = session.exec(select(Notice)).all()
            hearers = announce(session, notices)
            for notice in notices:
                session.delete(notice)
        (heard,) = hearers.values()
        return heard

    def prefer(self, who: Principal, **channels: list[str]) -> None:
        """`training__completed=["email"]`."""
        with self.database.write() as session:
            wanted = {name.replace("__", "."): chosen for name, chosen in channels.items()}
            Preferences(session, can_mail=True).change(who, wanted)

    def inbox(self, who: Principal, **more: Any) -> list[Notification]:
        """What somebody was told."""
        with self.database.read() as session:
            return Inbox(session).list_page(who, **more)[0]

    def mails(self) -> list[Mail]:
        """What waits to be sent."""
        with self.database.read() as session:
            return list(session.exec(select(Mail)))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path)
    yield opened
    opened.database.close()
