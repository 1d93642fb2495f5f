"""Lookups: the addresses behind names, asked for in threads.

A resolver cannot be broken off: a name server that does not answer keeps its thread for half a minute. So
each organisation has few threads, and none takes more than are left for the others; and a process ends
without waiting for them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from tg_workbench.errors import WorkbenchError

MOST_LOOKUPS = 64
MOST_PER_TENANT = 8
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NoLookup(WorkbenchError):
    """Too many lookups of the organisation are going on."""


class Lookups:
    """Names are looked up here. It lives in one event loop."""

    def __init__(self) -> None:
        self._going_on: Counter[str] = Counter()
        self._ended = asyncio.Event()

    async def place(self, tenant_id: str, *, patience_seconds: float) -> Resolve:
        """The right to look one name up: whoever has it uses it at once. Raises NoLookup."""
        try:
            async with asyncio.timeout(patience_seconds):
                while not self._is_free(tenant_id):
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            raise NoLookup from None
        return partial(self._look_up, tenant_id)

    def _is_free(self, tenant_id: str) -> bool:
        free = MOST_LOOKUPS - self._going_on.total()
        return self._going_on[tenant_id] < min(MOST_PER_TENANT, free)

    async def _look_up(self, tenant_id: str, host: str, port: int) -> Sequence[str]:
        """**Why** a thread of its own, and no pool: at the end of a process pools wait for their threads."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def look_up() -> None:
            addresses, failure = list[str](), None
            try:
                entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except (OSError, ValueError, OverflowError) as raised:
                failure = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                loop.call_soon_threadsafe(self._end, tenant_id, found, addresses, failure)

        threading.Thread(target=look_up, name="webhook-lookup", daemon=True).start()
        self._going_on[tenant_id] += 1
        return await found

    def _end(
        self,
        tenant_id: str,
        found: asyncio.Future[list[str]],
        addresses: list[str],
        failure: Exception | None,
    ) -> None:
        self._going_on[tenant_id] -= 1
        if not self._going_on[tenant_id]:
            del self._going_on[tenant_id]
        self._ended.set()
        if found.done():
            return
        if failure is not None:
            found.set_exception(failure)
        else:
            found.set_result(addresses)
