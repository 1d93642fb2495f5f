"""Places for what is on its way: nobody takes all of them, and updates wait for each other."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from tg_workbench.contracts.intake import MOST_OF_ONE, Intake, UpdateIntake
from tg_workbench.errors import QuotaExceeded


def test_nobody_takes_all_places() -> None:
    intake = Intake()
    with ExitStack() as places:
        for _ in range(MOST_OF_ONE):
            places.enter_context(intake.place("one"))
        with pytest.raises(QuotaExceeded), intake.place("one"):
            pass
        with intake.place("another"):
            pass
    with intake.place("one"):
        pass


def test_updates_of_many_devices_wait_for_each_other() -> None:
    there, most = 0, 0

    async def send(intake: UpdateIntake, device_id: str) -> None:
        nonlocal there, most
        async with intake.place(device_id):
            there += 1
            most = max(most, there)
            await asyncio.sleep(0.001)
            there -= 1

    async def send_all() -> None:
        intake = UpdateIntake(most=4)
        await asyncio.gather(*(send(intake, f"dev_{n}") for n in range(50)))

    asyncio.run(send_all())
    assert most == 4


def test_who_waits_too_long_or_sends_too_many_is_refused_and_leaves_no_trace() -> None:
    async def send() -> None:
        intake = UpdateIntake(most=1, longest_wait=0.01)
        async with intake.place("one"):
            with pytest.raises(QuotaExceeded):
                async with intake.place("another"):
                    pass
        async with intake.place("another"):
            pass
        wide = UpdateIntake(most=10)
        async with wide.place("one"), wide.place("one"), wide.place("one"), wide.place("one"):
            with pytest.raises(QuotaExceeded):
                async with wide.place("one"):
                    pass
        async with wide.place("one"):
            pass

    asyncio.run(send())
