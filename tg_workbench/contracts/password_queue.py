"""Where passwords are looked at: beside the event loop, two at a time, with a short queue and a memory.

The memory is of names: who tries too many passwords for one has to wait, whether or not anybody has that
name. It is this process's own and small; a session or an API key of the same person goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tg_workbench.crypto import passwords
from tg_workbench.errors import TooManyAttempts

MOST_WAITING = 32
MOST_TRIES = 20
WINDOW_SECONDS = 900
MOST_NAMES = 10_000
T = TypeVar("T")


class PasswordQueue:
    """The passwords of everybody who is at the door just now."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(passwords.AT_ONCE, "passwords")
        self._inside = 0
        self._tries: OrderedDict[str, list[float]] = OrderedDict()

    async def hashed(self, password: str) -> str:
        """What is stored of a password. Raises PasswordUnfit, TooManyAttempts."""
        return await self._work(passwords.hash_password, password)

    async def verify(self, name: str, password: str, stored: str | None) -> bool:
        """Whether it is the right one; None for nobody's. Raises TooManyAttempts."""
        tries = self._tries_of(name)
        if len(tries) >= MOST_TRIES:
            raise _too_many(int(tries[0] + WINDOW_SECONDS - time.monotonic()) + 1)
        tries.append(time.monotonic())  # before the answer is known, so that a crowd is counted, too
        right = await self._work(passwords.verify, password, stored)
        if right:
            self._tries.pop(name, None)
        return right

    async def _work(self, function: Callable[..., T], *arguments: str | None) -> T:
        if self._inside >= MOST_WAITING:
            raise _too_many(5)
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._inside -= 1

    def _tries_of(self, name: str) -> list[float]:
        """When passwords were tried for a name lately; the name that was tried longest ago is forgotten."""
        since = time.monotonic() - WINDOW_SECONDS
        tries = [at for at in self._tries.pop(name, []) if at > since]
        self._tries[name] = tries
        if len(self._tries) > MOST_NAMES:
            self._tries.popitem(last=False)
        return tries


def _too_many(seconds: int) -> TooManyAttempts:
    return TooManyAttempts(limit=MOST_TRIES, window_seconds=WINDOW_SECONDS, retry_after=max(1, seconds))
