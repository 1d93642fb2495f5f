"""What the API does beside answering, from when its database is open until it ends.

It keeps the audit log signed, delivers webhooks, watches for what operators must know, and tells listeners.
A duty that ends by mistake is in the log; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import structlog

from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.watched import webhook_disabled
from tg_workbench.errors import WorkbenchError
from tg_workbench.observability.conditions import CONDITIONS, Condition
from tg_workbench.observability.logs import where
from tg_workbench.observability.watch import Watch
from tg_workbench.webhooks import Courier, Reach

log = structlog.get_logger("tg_workbench")
SIGN_SECONDS = 1.0
"""How long a new entry of the audit log may wait for the signature that covers it."""


@contextlib.asynccontextmanager
async def on_duty(premises: Premises, opening: asyncio.Task[None]) -> AsyncIterator[None]:
    """Begin every duty once `opening` has ended well, and end them with the block; the log is left signed."""
    closing = asyncio.Event()
    signing = asyncio.create_task(_once_open(opening, _keep_signed(premises, closing)))
    others = [
        asyncio.create_task(_once_open(opening, duty))
        for duty in (_deliver(premises), _watch(premises), _tell(premises))
    ]
    try:
        yield
    finally:
        closing.set()
        for task in others:
            task.cancel()
        await asyncio.gather(signing, *others, return_exceptions=True)


async def _once_open(opening: asyncio.Task[None], duty: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait({opening})
        if opening.cancelled() or opening.exception() is not None:
            return
        try:
            await duty
        except Exception as failure:
            log.error("a duty has ended", reason=type(failure).__name__, **where(failure))
            raise
    finally:
        duty.close()


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
    await Courier(premises.database, premises.settings.home, Reach.of(premises.settings)).run()


async def _watch(premises: Premises) -> None:
    conditions: dict[str, Condition] = {
        **CONDITIONS,
        "audit_broken": premises.scan,
        "webhook_disabled": webhook_disabled,
    }
    await Watch(premises.database, premises.settings.home, premises.folder, conditions).run(premises.bells)


async def _tell(premises: Premises) -> None:
    await premises.broadcasts.run(premises.database, premises.bells)
