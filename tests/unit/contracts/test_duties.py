"""A duty that fails begins again, and one that keeps failing is known."""

from __future__ import annotations

import asyncio

import pytest

from tg_workbench.contracts import duties
from tg_workbench.contracts.duties import _keep_up
from tg_workbench.observability.health import Check, Checks


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "LEAST_PAUSE", 0.001)
    monkeypatch.setattr(duties, "MOST_PAUSE", 0.002)


def test_a_duty_that_fails_begins_again_and_is_known_while_it_keeps_failing() -> None:
    failing, seen = set[str](), []

    async def duty() -> None:
        seen.append("watching" in failing)
        if len(seen) < 6:
            raise ZeroDivisionError

    asyncio.run(_keep_up("watching", duty, failing, asyncio.Event()))
    assert seen == [False, False, False, True, True, True]


def test_a_duty_that_goes_on_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "STEADY_SECONDS", 0.05)
    failing = {"watching"}

    async def duty() -> None:
        assert failing
        await asyncio.sleep(0.2)
        assert not failing

    asyncio.run(_keep_up("watching", duty, failing, asyncio.Event()))


def test_a_duty_that_fails_at_the_end_ends() -> None:
    async def scene() -> int:
        closing, calls = asyncio.Event(), []

        async def duty() -> None:
            calls.append(closing.is_set())
            closing.set()
            raise OSError

        await asyncio.wait_for(_keep_up("signing", duty, set(), closing), 5)
        return len(calls)

    assert asyncio.run(scene()) == 2, "the last signature is tried once more"


def test_health_speaks_of_duties_only_when_one_keeps_failing() -> None:
    well = Checks(database=Check(status="healthy"))
    assert well.model_dump(exclude_none=True) == {"database": {"status": "healthy"}}
