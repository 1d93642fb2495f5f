"""What is counted in this process is exact, ends in time, and has an end to its size."""

from __future__ import annotations

import asyncio

import pytest
from limits import RateLimitItemPerMinute

from tg_workbench.contracts import counters
from tg_workbench.contracts.counters import Counters, ProcessStore
from tg_workbench.errors import InvalidSetting

RULE = RateLimitItemPerMinute(3)


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(counters, "time", clock)
    return clock


def test_a_window_begins_with_its_first_request_and_ends(clock: Clock) -> None:
    counted = Counters()
    assert asyncio.run(counted.count(RULE, "a")) == (1, 1060.0)
    clock.now += 59
    assert asyncio.run(counted.count(RULE, "a")) == (2, 1060.0)
    assert asyncio.run(counted.count(RULE, "b")) == (1, 1119.0)
    clock.now += 1
    assert asyncio.run(counted.count(RULE, "a")) == (1, 1120.0)


def test_what_is_over_is_forgotten_and_what_is_too_much_too(clock: Clock) -> None:
    store = ProcessStore(most=10)

    async def visit(first: int, last: int) -> None:
        for number in range(first, last):
            await store.incr(str(number), 60)

    asyncio.run(visit(0, 25))
    assert len(store._windows) == 10
    assert asyncio.run(store.get("24")) == 1
    assert asyncio.run(store.get("0")) == 0
    clock.now += 61
    asyncio.run(visit(100, 110))
    assert set(store._windows) == {str(number) for number in range(100, 110)}


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://localhost:99999999"])
def test_a_redis_that_cannot_be_named_is_refused_at_start(url: str) -> None:
    with pytest.raises(InvalidSetting, match="REDIS_URL"):
        Counters(url)


@pytest.mark.parametrize("scheme", ["redis://localhost", "rediss://localhost", "unix:///tmp/redis.sock"])
def test_every_way_to_redis_is_understood(scheme: str) -> None:
    assert Counters(scheme).shared is not None
