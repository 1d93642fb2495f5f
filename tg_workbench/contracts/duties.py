"""What the API does beside answering, from when its database is open until it ends.

It keeps the audit log signed, tells people and delivers webhooks and e-mail, watches for what operators must
know, tells listeners, misses devices that are not seen any more, wakes rounds at their deadlines, and removes
what is kept for a while only.
A duty that fails begins again, later each time; one that keeps failing makes the workbench unhealthy.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import structlog

from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.watched import any_budget_near_cap, webhook_disabled
from tg_workbench.datasets import Datasets, Uploads, is_named, sweep_checks, sweep_scratch
from tg_workbench.errors import WorkbenchError
from tg_workbench.federation.devices import Devices, ServerKeys
from tg_workbench.federation.rounds import Rounds, UpdateUploads
from tg_workbench.notifications import PostalRound, announce
from tg_workbench.observability.conditions import CONDITIONS, Condition
from tg_workbench.observability.watch import Watch
from tg_workbench.storage import LeftBlobs
from tg_workbench.storage.database import now
from tg_workbench.training import LeftCheckpoints
from tg_workbench.webhooks import Courier, Reach

log = structlog.get_logger("tg_workbench")
SIGN_SECONDS = 1.0
"""How long a new entry of the audit log may wait for the signature that covers it."""
LEAST_PAUSE, MOST_PAUSE = 1.0, 60.0
STEADY_SECONDS = 120.0
"""A duty that went on for so long is well: its next failure is a first one."""
ROUNDS_SECONDS = 0.5
"""By how much a round may be late for its deadline."""
DEVICES_SECONDS = 2.0
"""How often it is looked for devices that are not seen any more."""
TIDY_SECONDS = 900.0
"""How often it is looked for checkpoints whose time is over, and for what killed workers have left."""
MOST_FAILURES = 3
"""How often a duty may fail in a row before the workbench is unhealthy."""
Duty = Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def on_duty(premises: Premises, opening: asyncio.Task[None]) -> AsyncIterator[None]:
    """Begin every duty once `opening` has ended well, and end them with the block; the log is left signed."""
    closing = asyncio.Event()

    def begin(name: str, duty: Duty) -> asyncio.Task[None]:
        return asyncio.create_task(_once_open(opening, _keep_up(name, duty, premises.failing, closing)))

    signing = begin("signing", lambda: _keep_signed(premises, closing))
    others = [
        begin("webhooks", lambda: _deliver(premises)),
        begin("mail", lambda: _send_mail(premises)),
        begin("alerts", lambda: _watch(premises)),
        begin("broadcasts", lambda: _tell(premises)),
        begin("devices", lambda: _mind_devices(premises)),
        begin("rounds", lambda: _mind_rounds(premises)),
        begin("tidying", lambda: _keep_tidy(premises)),
    ]
    try:
        yield
    finally:
        closing.set()
        for task in others:
            task.cancel()
        await asyncio.gather(signing, *others, return_exceptions=True)


def tidy(premises: Premises) -> None:
    """Remove what an earlier process has left half done: files that were arriving, uploads out of time."""
    premises.blobs.sweep()
    sweep_checks(premises.blobs)
    with premises.database.write() as session:
        Uploads(session, Datasets(session, premises.blobs)).tidy()
        UpdateUploads(session, premises.folder, premises.blobs).tidy()


async def _once_open(opening: asyncio.Task[None], duty: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait({opening})
        if not opening.cancelled() and opening.exception() is None:
            await duty
    finally:
        duty.close()


async def _keep_up(name: str, duty: Duty, failing: set[str], closing: asyncio.Event) -> None:
    """Do a duty until it ends well, and begin again when it fails; one that keeps failing is in `failing`."""
    failures = 0
    while True:
        is_last, began = closing.is_set(), time.monotonic()
        well = asyncio.get_running_loop().call_later(STEADY_SECONDS, failing.discard, name)
        try:
            await duty()
            return
        except Exception:  # whatever it was: without the duty, operators and listeners would hear nothing
            failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            log.exception("a duty has failed", duty=name, failures=failures)
        finally:
            well.cancel()
        if is_last:
            return
        if failures >= MOST_FAILURES:
            failing.add(name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), min(MOST_PAUSE, LEAST_PAUSE * 2 ** min(failures - 1, 10)))


async def _keep_signed(premises: Premises, closing: asyncio.Event) -> None:
    is_open = True
    while is_open:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), SIGN_SECONDS)
        is_open = not closing.is_set()
        try:
            await asyncio.to_thread(premises.audit.settle, closing=not is_open)
        except Exception as failure:  # noqa: BLE001  (whatever it was: entries wait for their signature)
            known = isinstance(failure, WorkbenchError)
            log.error("audit log not signed", reason=str(failure) if known else type(failure).__name__)


async def _deliver(premises: Premises) -> None:
    reach = Reach.of(premises.settings)
    await Courier(premises.database, premises.settings.home, reach, announce=announce).run()


async def _send_mail(premises: Premises) -> None:
    """Where no server is configured there is nothing to do."""
    url, sender = premises.settings.smtp_url, premises.settings.smtp_from
    if url is None or sender is None:
        return
    from tg_workbench.notifications.mailbox import Mailbox  # here: most workbenches send none

    await PostalRound(premises.database, Mailbox.of(url, sender)).run()


async def _watch(premises: Premises) -> None:
    conditions: dict[str, Condition] = {
        **CONDITIONS,
        "audit_broken": premises.scan,
        "budget_near_cap": any_budget_near_cap,
        "webhook_disabled": webhook_disabled,
    }
    await Watch(premises.database, premises.settings.home, premises.folder, conditions).run(premises.bells)


async def _tell(premises: Premises) -> None:
    await premises.broadcasts.run(premises.database, premises.bells)


async def _mind_devices(premises: Premises) -> None:
    since = now()
    while True:
        await asyncio.to_thread(_look_after_devices, premises, since)
        await asyncio.sleep(DEVICES_SECONDS)


async def _mind_rounds(premises: Premises) -> None:
    while True:
        await asyncio.to_thread(_wake_rounds, premises)
        await asyncio.sleep(ROUNDS_SECONDS)


def _wake_rounds(premises: Premises) -> None:
    """Have a worker look at each round that is at a deadline; remove uploads out of time, and what is left.

    Most looks find nothing to do, and take no lock.
    """
    with premises.database.read() as session:
        is_due = Rounds(session, premises.folder, premises.blobs).is_due()
        is_left = LeftBlobs(session, premises.blobs).is_due()
        is_late = UpdateUploads(session, premises.folder, premises.blobs).is_due()
        is_old = Uploads(session, Datasets(session, premises.blobs)).is_due()
    if not (is_due or is_left or is_late or is_old):
        return
    with premises.database.write() as session:
        Rounds(session, premises.folder, premises.blobs).wake_due()
        UpdateUploads(session, premises.folder, premises.blobs).forget_expired()
        Uploads(session, Datasets(session, premises.blobs)).forget_expired()
        LeftBlobs(session, premises.blobs).sweep(is_named)


async def _keep_tidy(premises: Premises) -> None:
    while True:
        await asyncio.to_thread(_sweep_scratch, premises)
        while await asyncio.to_thread(_tidy_some, premises):
            pass
        await asyncio.sleep(TIDY_SECONDS)


def _sweep_scratch(premises: Premises) -> None:
    with premises.database.read() as session:
        sweep_scratch(session, premises.blobs, premises.folder)


def _tidy_some(premises: Premises) -> int:
    """Remove some of the checkpoints that no job goes on from any more; how many. None takes no lock."""
    kept_days = premises.settings.restart_days
    with premises.database.read() as session:
        if not LeftCheckpoints(session, premises.blobs, kept_days).is_due():
            return 0
    with premises.database.write() as session:
        return LeftCheckpoints(session, premises.blobs, kept_days).sweep()


def _look_after_devices(premises: Premises, since: float) -> None:
    """Miss those who are not seen any more, and give the server new keys when its own are due.

    Most looks find nothing to do, and take no lock.
    """
    home = premises.settings.home
    with premises.database.read() as session:
        is_missing, is_due = Devices(session).is_missing(since), ServerKeys(session, home).is_due()
    if not is_missing and not is_due:
        return
    with premises.database.write() as session:
        Devices(session).miss(since)
        ServerKeys(session, home).rotate_when_due()
