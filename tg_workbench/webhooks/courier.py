"""The courier: takes what is due out of the queue and has it carried out, some at a time.

**Why** it runs in the API's event loop: waiting for receivers is what an event loop is good at, and the
dispatcher must wait for nobody. The queue lies in the database, so a process that ends loses nothing and a
second one does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import select

from tg_workbench.errors import KeysUnreadable, SealBroken, WorkbenchError
from tg_workbench.storage import Database
from tg_workbench.storage.database import now
from tg_workbench.webhooks.addresses import Reach
from tg_workbench.webhooks.queue import Claim, DeliveryQueue, Outcome
from tg_workbench.webhooks.signatures import headers, signed_body
from tg_workbench.webhooks.subscriptions import Subscriptions
from tg_workbench.webhooks.tables import Delivery, Subscription

if TYPE_CHECKING:
    from tg_workbench.webhooks.postman import Postman

log = logging.getLogger(__name__)
MOST_AT_ONCE = 32
"""More than one tenant may have subscriptions: receivers that hang cannot take every place."""
LOOK_SECONDS = 0.5
PRUNE_SECONDS = 600.0


class Courier:
    """Delivers until it is cancelled. Several may share a database."""

    def __init__(
        self,
        database: Database,
        home: Path,
        reach: Reach,
        postman: Postman | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self.database = database
        self.home = home
        self.reach = reach
        self.postman = postman
        self.clock = clock
        self._tries: set[asyncio.Task[None]] = set()
        self._place_free = asyncio.Event()
        self._last_prune = -PRUNE_SECONDS
        self._is_waiting = False

    async def run(self) -> None:
        """Look, deliver, wait, for ever. Tries that are cut off when it is cancelled are made again later."""
        try:
            while True:
                self._place_free.clear()
                seconds = 0.0 if self.look() else LOOK_SECONDS
                with suppress(TimeoutError):  # wait_for would lose a cancellation that comes with the event
                    async with asyncio.timeout(seconds):
                        await self._place_free.wait()
        finally:
            for task in self._tries:
                task.cancel()
            await asyncio.gather(*self._tries, return_exceptions=True)
            if self.postman is not None:
                await self.postman.close()

    def look(self) -> bool:
        """Begin what is due and has a place. True when there may be more to do at once."""
        try:
            self._prune()
            with self.database.read() as session:
                has_work = DeliveryQueue(session, self.clock()).has_work()
            self._is_waiting = False
            if not has_work:
                return False
            with self.database.write() as session:
                queue = DeliveryQueue(session, self.clock())
                told = queue.fan_out()
                free = MOST_AT_ONCE - len(self._tries)
                claims = queue.claim(free) if free > 0 else []
        except WorkbenchError as failure:
            if not self._is_waiting:
                log.warning("webhooks wait: %s", type(failure).__name__)
            self._is_waiting = True
            return False
        except Exception:
            log.exception("webhooks wait, unexpectedly")
            return False
        for claim in claims:
            task = asyncio.get_running_loop().create_task(self._try(claim))
            self._tries.add(task)
            task.add_done_callback(self._ended)
        return bool(told or claims)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tries.discard(task)
        self._place_free.set()

    async def _try(self, claim: Claim) -> None:
        """Try once and write down how it went; if that cannot be written, the lease runs out by itself."""
        outcome: Outcome | None = None
        try:
            outcome = await self._carry(claim)
        except (SealBroken, KeysUnreadable):
            outcome = Outcome("its secret cannot be opened")
        except WorkbenchError as failure:
            log.warning("a webhook waits: %s", type(failure).__name__)
        except Exception:
            log.exception("a webhook's try failed unexpectedly")
            outcome = Outcome("the workbench could not send it")
        if outcome is not None:
            with suppress(WorkbenchError), self.database.write() as session:
                DeliveryQueue(session, self.clock()).settle(claim, outcome)

    async def _carry(self, claim: Claim) -> Outcome | None:
        """None: it was deleted meanwhile. Raises SealBroken, KeysUnreadable, DatabaseUnavailable."""
        with self.database.read() as session:
            subscription = session.get(Subscription, claim.subscription_id)
            delivery = session.exec(select(Delivery).where(Delivery.id == claim.delivery_id)).first()
            if subscription is None or delivery is None:
                return None
            secrets = Subscriptions(session, self.home, self.reach).good_secrets(subscription)
            url, content, message_id = subscription.url, delivery.content, delivery.message_id
        body = signed_body(content, secrets[0])
        answer = await self._the_postman().post(url, body, headers(message_id, body, secrets, time.time()))
        problem = answer.problem
        if problem is None and not answer.good:
            moved = 300 <= (answer.status or 0) < 400
            problem = f"it answered {answer.status}" + ("; redirects are not followed" if moved else "")
        return Outcome(problem, answer.status, answer.text, answer.milliseconds)

    def _the_postman(self) -> Postman:
        """**Why** only now: an HTTP client costs a tenth of a second, and most workbenches need none."""
        if self.postman is None:
            from tg_workbench.webhooks.postman import Postman

            self.postman = Postman(self.reach)
        return self.postman

    def _prune(self) -> None:
        """Forget what is old, now and then."""
        if time.monotonic() - self._last_prune > PRUNE_SECONDS:
            self._last_prune = time.monotonic()
            with self.database.write() as session:
                DeliveryQueue(session, self.clock()).prune()
