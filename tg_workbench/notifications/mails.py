"""Mails: e-mail that waits to be sent. A row is there until it was taken, or given up after its last try.

Taking one puts off when it is due: a process that ends in the middle leaves it to be tried again, so a mail
may come twice, under the same Message-ID.
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.notifications.tables import Mail
from tg_workbench.storage.database import now

log = logging.getLogger(__name__)
MOST_ATTEMPTS = 8
MOST_WAITING = 100
"""Of one person: what comes on top of them is left out."""
MOST_AT_ONCE = 20
LEASE_SECONDS = 300.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 15.0, 3600.0


class Mails:
    """The e-mail that waits. `time` is the moment at which it is looked at."""

    def __init__(self, session: Session, time: float | None = None) -> None:
        self.session = session
        self.time = now() if time is None else time

    def put(self, owner_id: str, kind: str, data: dict[str, Any], at: float) -> None:
        """Have somebody written to."""
        mine = select(sa.func.count()).select_from(Mail).where(Mail.owner_id == owner_id)
        if self.session.exec(mine).one() >= MOST_WAITING:
            log.warning("an e-mail is left out: %s wait for one person", MOST_WAITING)
            return
        mail = Mail(id=str(uuid.uuid4()), owner_id=owner_id, kind=kind, data=json.dumps(data), at=at)
        mail.due_at = self.time
        self.session.add(mail)
        self.session.flush()

    def has_due(self) -> bool:
        """Whether anything is to be sent now. One quick look."""
        return (
            self.session.exec(select(Mail.number).where(Mail.due_at <= self.time).limit(1)).first()
            is not None
        )

    def take(self) -> list[Mail]:
        """What is due, the oldest first, to be tried once.

        What had its last try and was not settled goes: whoever tried it came to no end, each time.
        """
        self._give_up_unsettled()
        due = select(Mail).where(Mail.due_at <= self.time).order_by(col(Mail.due_at), col(Mail.number))
        mails = list(self.session.exec(due.limit(MOST_AT_ONCE)))
        for mail in mails:
            mail.attempts += 1
            mail.due_at = self.time + LEASE_SECONDS
            self.session.add(mail)
        self.session.flush()
        return mails

    def settle(self, mail: Mail, problem: str | None) -> None:
        """It was taken, or there was a `problem`: then another try is planned, or it is given up."""
        if problem is None or mail.attempts >= MOST_ATTEMPTS:
            if problem is not None:
                log.warning("an e-mail is given up after %s tries: %s", mail.attempts, problem)
            self.session.connection().execute(sa.delete(Mail).where(col(Mail.number) == mail.number))
            return
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (mail.attempts - 1))
        later = sa.update(Mail).where(col(Mail.number) == mail.number).values(due_at=self.time + wait)
        self.session.connection().execute(later)

    def _give_up_unsettled(self) -> None:
        spent = (col(Mail.due_at) <= self.time, col(Mail.attempts) >= MOST_ATTEMPTS)
        gone = self.session.connection().execute(sa.delete(Mail).where(*spent)).rowcount
        if gone:
            log.warning("%s e-mails are given up: none of %s tries came to its end", gone, MOST_ATTEMPTS)
