"""The postal round: sends the e-mail that is due, some at a time, until it is cancelled.

**Why** apart from the courier of webhooks: there is one server for all of it, spoken to by a library that
blocks, so one thread does it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from tg_workbench.errors import WorkbenchError
from tg_workbench.identity import Memberships
from tg_workbench.notifications.mails import MOST_AT_ONCE, Mails
from tg_workbench.notifications.tables import Mail
from tg_workbench.storage import Database
from tg_workbench.storage.database import now

if TYPE_CHECKING:
    from tg_workbench.notifications.mailbox import Mailbox

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0


class PostalRound:
    """Sends for ever. Several may share a database."""

    def __init__(self, database: Database, mailbox: Mailbox, clock: Callable[[], float] = now) -> None:
        self.database = database
        self.mailbox = mailbox
        self.clock = clock

    async def run(self) -> None:
        """Look, send, wait. What was being sent when it is cancelled is sent again later.

        **Why** a thread that nobody waits for: a server that hangs would keep the workbench from ending.
        """
        ending = threading.Event()
        thread = threading.Thread(target=self._rounds, args=(ending,), name="mail", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            ending.set()
        raise RuntimeError("the thread that sends e-mail has ended")

    def _rounds(self, ending: threading.Event) -> None:
        more = False
        while not ending.wait(0.0 if more else LOOK_SECONDS):
            try:
                more = self.go()
            except WorkbenchError as failure:  # the database is away: later
                more = False
                log.warning("e-mail waits: %s", type(failure).__name__)

    def go(self) -> bool:
        """Send what is due once; whether there may be more."""
        with self.database.read() as session:
            if not Mails(session, self.clock()).has_due():
                return False
        with self.database.write() as session:
            mails = Mails(session, self.clock()).take()
            places = Memberships(session)
            addressed = [(mail, places.address_of(mail.owner_id)) for mail in mails]
        problems = self._send([(mail, address) for mail, address in addressed if address is not None])
        with self.database.write() as session:
            for mail in mails:
                # whoever has left in the meantime gets none, and there is nothing to try again
                Mails(session, self.clock()).settle(mail, problems.get(mail.id))
        return len(mails) >= MOST_AT_ONCE

    def _send(self, addressed: list[tuple[Mail, str]]) -> dict[str, str | None]:
        from tg_workbench.notifications.letters import letter  # here: most workbenches send none

        letters, problems = {}, dict[str, str | None]()
        for mail, address in addressed:
            try:
                letters[mail.id] = letter(mail, self.mailbox.sender, address)
            except Exception as failure:  # noqa: BLE001  (whatever it was: the others are sent all the same)
                problems[mail.id] = type(failure).__name__  # its words may hold the address
                log.warning("an e-mail cannot be written: %s", problems[mail.id])
        if letters:
            problems.update(zip(letters, self.mailbox.send(list(letters.values())), strict=True))
        return problems
