"""What a device remembers of a campaign is there for its next round, and gone when none comes any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.federation.attacking import Attacker
from tests.federation.conftest import Fleet, rows_of
from tests.federation.test_buffered_rounds import cancel, found_in
from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.device.memories import MOST_ASKED
from tg_workbench.errors import AssignmentInvalid
from tg_workbench.federation.updates.bindings import FAREWELL_CONTEXT
from tg_workbench.sdk.device import Device

TOP_K = {"compression": "top-k", "compression_keep": 0.5}


@pytest.fixture
def hermit(fleet: Fleet) -> Device:
    """A device into whose folder no other test looks."""
    return fleet.enroll("one that is away for long")


def started(fleet: Fleet, **asked: Any) -> str:
    """A campaign of two rounds, of a device that is alone."""
    told = fleet.start(rounds=2, participant_criteria={"min_participants": 1}, **asked)
    return str(told["campaign_id"])


def serve(fleet: Fleet, device: Device, campaign: str, number: int) -> str:
    """Take part in a round of a campaign; its id."""
    round_id = found_in(fleet, campaign, number, "recruiting")
    took = device.take_part(round_id, rows_of(number))
    assert took is not None
    assert took.status == "accepted"
    return round_id


def remembered(device: Device) -> list[str]:
    """Of which campaigns it remembers what."""
    kinds = ("control-*", "residual-*")
    return sorted(path.stem for kind in kinds for path in device._folder.path.glob(kind))


def test_what_is_remembered_of_a_campaign_goes_after_its_last_round(fleet: Fleet, hermit: Device) -> None:
    campaign = started(fleet, **TOP_K)
    serve(fleet, hermit, campaign, 1)
    found_in(fleet, campaign, 2, "recruiting")
    back = Device(hermit._folder.path)
    for device in (hermit, back):
        device.heartbeat()
        assert remembered(device) == [f"residual-{campaign}"]
    serve(fleet, back, campaign, 2)
    assert fleet.campaign_over(campaign)["status"] == "completed"
    back.heartbeat()
    assert remembered(back) == []
    back.close()


def test_a_device_that_was_away_forgets_what_is_over_and_nothing_else(fleet: Fleet, hermit: Device) -> None:
    kept, cancelled = started(fleet, strategy="scaffold"), started(fleet, **TOP_K)
    for campaign in (kept, cancelled):
        serve(fleet, hermit, campaign, 1)
        found_in(fleet, campaign, 2, "recruiting")
    cancel(fleet, cancelled)
    for name in ("camp_of_nobody", "not a campaign's name"):
        (hermit._folder.path / f"residual-{name}.safetensors").write_bytes(b"old")
    back = Device(hermit._folder.path)
    back.heartbeat()
    assert remembered(back) == [f"control-{kept}", "residual-not a campaign's name"]
    serve(fleet, back, kept, 2)
    back.close()


def test_however_many_are_over_they_go(hermit: Device) -> None:
    for number in range(MOST_ASKED + 1):
        (hermit._folder.path / f"control-camp_{number}.safetensors").write_bytes(b"old")
    hermit.heartbeat()
    assert len(remembered(hermit)) == 1
    hermit.heartbeat()
    assert remembered(hermit) == []


def test_the_workbench_says_which_of_the_named_campaigns_are_over(fleet: Fleet, hermit: Device) -> None:
    campaign = started(fleet)
    machine = Attacker(fleet, hermit, "").as_machine()
    for answer in (machine.beat(), machine.beat(campaigns=[campaign])):
        assert answer.json()["campaigns_over"] is None
    told = machine.beat(campaigns=["camp_of_nobody", campaign]).json()
    assert told["campaigns_over"]["campaigns"] == ["camp_of_nobody"]
    cancel(fleet, campaign)
    assert machine.beat(campaigns=[campaign]).json()["campaigns_over"]["campaigns"] == [campaign]
    for wrong in ([campaign] * (MOST_ASKED + 1), ["../device"], [1], campaign):
        assert machine.beat(campaigns=wrong).status_code in (400, 422)


@contextmanager
def forged(device: Device, change: Callable[[Any], Any]) -> Iterator[None]:
    """A block in which somebody on the line writes into the answers what is over."""
    carried = device._connection.post

    def post(path: str, *rest: Any, **more: Any) -> dict[str, Any]:
        told = carried(path, *rest, **more)
        return {**told, "campaigns_over": change(told["campaigns_over"])} if "heartbeat" in path else told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device._connection, "post", post)
        yield


def test_who_forges_answers_makes_a_device_forget_nothing(fleet: Fleet, hermit: Device, pair: Any) -> None:
    kept, over = started(fleet, strategy="scaffold"), started(fleet, **TOP_K)
    for campaign in (kept, over):
        serve(fleet, hermit, campaign, 1)
        found_in(fleet, campaign, 2, "recruiting")
    before = remembered(hermit)
    cancel(fleet, over)
    another = Attacker(fleet, pair[0], "").as_machine()
    for_another = another.beat(campaigns=[over]).json()["campaigns_over"]
    own = SigningKey.generate().sign(b"anything", FAREWELL_CONTEXT)
    lies: tuple[Callable[[Any], Any], ...] = (
        lambda said: {"campaigns": [kept]},
        lambda said: {**said, "campaigns": [over, kept]},
        lambda said: {**said, "signature": text_of(own)},
        lambda said: {**said, "campaigns": [kept], "key_version": "v99.0"},
        lambda said: for_another,
    )
    for lie in lies:
        with forged(hermit, lie), pytest.raises(AssignmentInvalid):
            hermit.heartbeat()
        assert remembered(hermit) == before
    with forged(hermit, lambda said: [over, kept]):  # as it was said before it was signed
        hermit.heartbeat()
    assert remembered(hermit) == before
    hermit.heartbeat()
    assert remembered(hermit) == [f"control-{kept}"]
