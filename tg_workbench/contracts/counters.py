"""How many requests somebody made in a window of time: counted here, or in Redis for several processes.

A store that is away neither locks everybody out nor lets everybody through: until it is back this process
counts alone, by the same rules, so N processes let through N times as much at worst. The log says once that
it went and once that it is back. What is counted here is bounded, however many addresses come by.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from limits import RateLimitItem
from limits.aio.storage import Storage
from limits.errors import StorageError

from tg_workbench.errors import InvalidSetting

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

MOST_WINDOWS = 100_000
PATIENCE_SECONDS = 0.25
AWAY_SECONDS = 5.0
"""How long a store that failed is left alone, so that not every request waits for it."""
log = structlog.get_logger("tg_workbench")


class ProcessStore(Storage):
    """Fixed windows in this process. That of `limits` itself looks through all its keys at every hit."""

    STORAGE_SCHEME = None

    def __init__(self, most: int = MOST_WINDOWS) -> None:
        super().__init__()
        self.most = most
        self._windows: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """It has none of its own."""
        return ValueError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """One more; a window begins with its first request."""
        now = time.time()
        count, ends = self._windows.get(key, (0, 0.0))
        if ends <= now:
            self._windows.pop(key, None)
            self._make_room(now)
            count, ends = 0, now + expiry
        self._windows[key] = (count + amount, ends)
        return count + amount

    async def get(self, key: str) -> int:
        """How many there were in the window that is open."""
        count, ends = self._windows.get(key, (0, 0.0))
        return count if ends > time.time() else 0

    async def get_expiry(self, key: str) -> float:
        """When the window ends."""
        return self._windows.get(key, (0, time.time()))[1]

    async def check(self) -> bool:
        """It is always there."""
        return True

    async def reset(self) -> int:
        """Forget everything."""
        known = len(self._windows)
        self._windows.clear()
        return known

    async def clear(self, key: str) -> None:
        """Forget one window."""
        self._windows.pop(key, None)

    def _make_room(self, now: float) -> None:
        """Drop what is over from the front, two for each that is new; with no room left, the oldest."""
        for _ in range(2):
            oldest = next(iter(self._windows), None)
            if oldest is None or (self._windows[oldest][1] > now and len(self._windows) < self.most):
                return
            del self._windows[oldest]


class Counters:
    """Counts in the shared store, and in this process when there is none or it is away."""

    def __init__(self, redis_url: str | None = None) -> None:
        self.own = ProcessStore()
        self._pool = None if redis_url is None else _pool(redis_url)
        self.shared = None if self._pool is None else _store(self._pool)
        self._away_until: float | None = None

    async def count(self, rule: RateLimitItem, *who: str) -> tuple[int, float]:
        """Which request this is in its window, from 1, and the time at which the window ends."""
        if self.shared is not None and self._is_worth_asking():
            try:
                counted = await _counted(self.shared, rule, *who)
            except StorageError as failure:
                self._note_away(failure)
            else:
                self._note_back()
                return counted
        return await _counted(self.own, rule, *who)

    async def shared_answers(self) -> bool | None:
        """Whether the shared store answers; None when there is none."""
        return None if self.shared is None else await self.shared.check()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._pool is not None:
            await self._pool.aclose()

    def _is_worth_asking(self) -> bool:
        """Not while it is away, but for one request every few seconds."""
        if self._away_until is None:
            return True
        if time.monotonic() < self._away_until:
            return False
        self._away_until = time.monotonic() + AWAY_SECONDS
        return True

    def _note_away(self, failure: StorageError) -> None:
        if self._away_until is None:
            log.warning("rate limits are counted by this process", redis=type(failure.storage_error).__name__)
        self._away_until = time.monotonic() + AWAY_SECONDS

    def _note_back(self) -> None:
        if self._away_until is not None:
            log.info("rate limits are counted in Redis again")
            self._away_until = None


async def _counted(store: Storage, rule: RateLimitItem, *who: str) -> tuple[int, float]:
    key = rule.key_for(*who)
    return await store.incr(key, rule.get_expiry()), await store.get_expiry(key)


def _pool(url: str) -> ConnectionPool:
    """Connections to the Redis at `url`, none of them opened yet. Raises InvalidSetting."""
    try:
        from redis.asyncio import ConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise InvalidSetting("REDIS_URL", "set", "unset, or: pip install 'tg-workbench[redis]'") from None
    try:
        return ConnectionPool.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
        )
    except ValueError:
        raise InvalidSetting("REDIS_URL", "set", "a URL that Redis understands") from None


def _store(pool: ConnectionPool) -> Storage:
    from limits.aio.storage import RedisStorage

    return RedisStorage(
        "async+redis://",  # where it is, the pool knows
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="tg-workbench",
        connection_pool=pool,  # type: ignore[arg-type]  # the options are annotated too narrowly
    )
