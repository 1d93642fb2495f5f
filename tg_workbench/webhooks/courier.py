"""The courier: takes what is due out of the queue and has it carried out, some at a time.

**Why** it runs in the API's event loop: waiting for receivers is what an event loop is good at, and the
dispatcher must wait for nobody. The database is asked in a thread of the courier's own, so that the loop
waits for no lock. The queue lies in the database, so a process that ends loses nothing and a second one does
no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlmodel import select

from tg_workbench.errors import KeysUnreadable, SealBroken, WorkbenchError
from tg_workbench.storage import Database
from tg_workbench.storage.database import now
from tg_workbench.webhooks.addresses import Reach
from tg_workbench.webhooks.queue import MOST_PRUNED, Announce, Claim, DeliveryQueue, Outcome
from tg_workbench.webhooks.signatures import headers, signed_body
from tg_workbench.webhooks.subscriptions import Subscriptions
from tg_workbench.webhooks.tables import Delivery, Subscription

if TYPE_CHECKING:
    from tg_workbench.webhooks.postman import Postman

log = logging.getLogger(__name__)
T = TypeVar("T")
MOST_AT_ONCE = 128
"""How many tries may go on. A tenant has at most as many as it has subscriptions: a sixth of these places."""
LOOK_SECONDS = 0.5
PRUNE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found to do, and whether there may be more at once."""

    claims: tuple[Claim, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as it goes out."""

    tenant_id: str
    url: str
    body: bytes
    headers: dict[str, str]


class Courier:
    """Delivers until it is cancelled, once. Several may share a database."""

    def __init__(
        self,
        database: Database,
        home: Path,
        reach: Reach,
        postman: Postman | None = None,
        clock: Callable[[], float] = now,
        announce: Announce | None = None,
    ) -> None:
        self.database = database
        self.home = home
        self.reach = reach
        self.postman = postman
        self.clock = clock
        self.announce = announce
        self._tries: set[asyncio.Task[None]] = set()
        self._place_free = asyncio.Event()
        self._desk = ThreadPoolExecutor(1, thread_name_prefix="webhook-queue")
        self._next_prune = 0.0
        self._troubled = set[str]()

    async def run(self) -> None:
        """Look, deliver, wait, for ever. Tries that are cut off when it is cancelled are made again later."""
        try:
            while True:
                self._place_free.clear()
                seconds = 0.0 if await self.look() else LOOK_SECONDS
                with suppress(TimeoutError):  # wait_for would lose a cancellation that comes with the event
                    async with asyncio.timeout(seconds):
                        await self._place_free.wait()
        finally:
            for task in self._tries:
                task.cancel()
            await asyncio.gather(*self._tries, return_exceptions=True)
            await asyncio.to_thread(self._desk.shutdown, cancel_futures=True)
            if self.postman is not None:
                await self.postman.close()

    async def look(self) -> bool:
        """Begin what is due and has a place. True when there may be more to do at once."""
        free = MOST_AT_ONCE - len(self._tries)
        taking = asyncio.ensure_future(self._ask(lambda: self._take(free)))
        try:
            found = await asyncio.shield(taking)
        except asyncio.CancelledError:
            unbegun = (await taking).claims
            if unbegun:
                with suppress(WorkbenchError):
                    await self._ask(self._in_queue(partial(DeliveryQueue.put_back, claims=unbegun)))
            raise
        for claim in found.claims:
            task = asyncio.create_task(self._try(claim))
            self._tries.add(task)
            task.add_done_callback(self._ended)
        return found.more

    async def _ask(self, work: Callable[[], T]) -> T:
        """Have work with the database done in the courier's own thread."""
        return await asyncio.get_running_loop().run_in_executor(self._desk, work)

    def _take(self, free: int) -> Found:
        """Forget some of what is old, tell some of what is new, and claim what is due.

        Each in a transaction of its own: what goes wrong with one keeps the others from nothing.
        """
        forgotten = self._kept_up("forgetting", self._prune)
        if not self._kept_up("looking", self._has_work):
            return Found(more=bool(forgotten))
        told = self._kept_up("telling", self._in_queue(lambda queue: queue.fan_out(self.announce)))
        claims = self._kept_up("claiming", self._in_queue(lambda queue: queue.claim(free))) if free else []
        return Found(tuple(claims or ()), more=bool(forgotten or told or claims))

    def _has_work(self) -> bool:
        with self.database.read() as session:
            return DeliveryQueue(session, self.clock()).has_work()

    def _in_queue(self, work: Callable[[DeliveryQueue], T]) -> Callable[[], T]:
        def written() -> T:
            with self.database.write() as session:
                return work(DeliveryQueue(session, self.clock()))

        return written

    def _kept_up(self, what: str, work: Callable[[], T]) -> T | None:
        """None where it could not be done; the log says so once, until it can be done again."""
        try:
            done = work()
        except Exception as failure:
            if what not in self._troubled:
                known = isinstance(failure, WorkbenchError)
                log.warning("webhooks wait: %s, %s", what, type(failure).__name__, exc_info=not known)
            self._troubled.add(what)
            return None
        self._troubled.discard(what)
        return done

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
            settled = partial(DeliveryQueue.settle, claim=claim, outcome=outcome)
            with suppress(WorkbenchError):
                await self._ask(self._in_queue(settled))

    async def _carry(self, claim: Claim) -> Outcome | None:
        """None: it was deleted meanwhile. Raises SealBroken, KeysUnreadable, DatabaseUnavailable."""
        letter = await self._ask(lambda: self._letter(claim))
        if letter is None:
            return None
        answer = await self._the_postman().post(
            letter.url, letter.body, letter.headers, tenant_id=letter.tenant_id
        )
        if not answer.tried:
            return Outcome(answer.problem, tried=False)
        problem = answer.problem
        if problem is None and not answer.good:
            moved = 300 <= (answer.status or 0) < 400
            problem = f"it answered {answer.status}" + ("; redirects are not followed" if moved else "")
        return Outcome(problem, answer.status, answer.text, answer.milliseconds)

    def _letter(self, claim: Claim) -> Letter | None:
        """What to send where, signed; None: it was deleted meanwhile."""
        with self.database.read() as session:
            subscription = session.get(Subscription, claim.subscription_id)
            delivery = session.exec(select(Delivery).where(Delivery.id == claim.delivery_id)).first()
            if subscription is None or delivery is None:
                return None
            secrets = Subscriptions(session, self.home, self.reach).good_secrets(subscription)
            url, tenant_id = subscription.url, subscription.tenant_id
        body = signed_body(delivery.content, secrets[0])
        return Letter(tenant_id, url, body, headers(delivery.message_id, body, secrets, time.time()))

    def _the_postman(self) -> Postman:
        """**Why** only now: an HTTP client costs a tenth of a second, and most workbenches need none."""
        if self.postman is None:
            from tg_workbench.webhooks.postman import Postman

            self.postman = Postman(self.reach)
        return self.postman

    def _prune(self) -> bool:
        """Forget some of what is old, now and then; True while there is more of it."""
        if time.monotonic() < self._next_prune:
            return False
        self._next_prune = time.monotonic() + PRUNE_SECONDS
        if self._in_queue(DeliveryQueue.prune)() < MOST_PRUNED:
            return False
        self._next_prune = 0.0
        return True
