"""Where passwords are looked at: beside the event loop, two at a time, with a short queue and a memory.

The memory is of whom they were for: who tries too many for one has to wait, whether or not anybody has that
name. A user has one count, whichever name they are called by; names that nobody has are remembered apart, and
so is what a user tries who is signed in already: a stranger cannot keep them from changing their password.
Only what is looked at is counted. The memory is this process's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from tg_workbench.contracts.tries import MOST_TRIES, WINDOW_SECONDS, Tries
from tg_workbench.crypto import passwords
from tg_workbench.errors import PasswordsBusy, TooManyAttempts

MOST_WAITING = 32
MOST_OF_ONE_ADDRESS = 8
BUSY_SECONDS = 5
T = TypeVar("T")
Kind = Literal["user", "name", "session"]


@dataclass(frozen=True, slots=True)
class Tried:
    """Whose password it may be, and the address it came from, if it has one: a user's id, or a name."""

    kind: Kind
    id: str
    address: str | None = None


class PasswordQueue:
    """The passwords of everybody who is at the door just now."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(passwords.AT_ONCE, "passwords")
        self._inside = 0
        self._inside_of: Counter[str] = Counter()
        self._tries = {kind: Tries() for kind in get_args(Kind)}

    async def hashed(self, password: str, address: str | None = None) -> str:
        """What is stored of a password. Raises PasswordUnfit, PasswordsBusy."""
        with self._place(address):
            return await self._work(passwords.hash_password, password)

    async def verify(self, tried: Tried, password: str, stored: str | None) -> bool:
        """Whether it is the right one; None for nobody's. Raises TooManyAttempts, PasswordsBusy."""
        tries = self._tries[tried.kind]
        if (left := tries.seconds_left(tried.id)) > 0:
            raise TooManyAttempts(
                limit=MOST_TRIES, window_seconds=WINDOW_SECONDS, retry_after=math.ceil(left)
            )
        with self._place(tried.address):
            tries.note(tried.id)  # before the answer is known, so that a crowd is counted, too
            right = await self._work(passwords.verify, password, stored)
        if right:
            tries.forgive(tried.id)
        return right

    @contextlib.contextmanager
    def _place(self, address: str | None) -> Iterator[None]:
        """A place in the queue. Raises PasswordsBusy when all are taken, or all that one address may have."""
        who = address or ""
        if self._inside >= MOST_WAITING or (address and self._inside_of[who] >= MOST_OF_ONE_ADDRESS):
            raise PasswordsBusy(BUSY_SECONDS)
        self._inside += 1
        self._inside_of[who] += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._inside_of[who] -= 1
            self._inside_of += Counter()  # drops whoever has none left

    async def _work(self, function: Callable[..., T], *arguments: str | None) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
