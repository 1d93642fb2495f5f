"""What a device remembers of a campaign is there for its next round, and gone when none comes any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.federation.attacking import Attacker
from tests.federation.conftest import Fleet, rows_of
from tests.federation.test_attacks import send_away
from tests.federation.test_buffered_rounds import cancel, found_in
from tests.federation.test_rounds import both
from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.device.memories import MOST_ASKED
from tg_workbench.errors import AssignmentInvalid, CallFailed
from tg_workbench.federation.updates import Layout
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
    return sorted({path.name.split(".")[0] for kind in kinds for path in device._folder.path.glob(kind)})


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
    cancel(fleet, kept)


# ----------------------------------------------------------------------------- what counts
@dataclass(frozen=True)
class Begun:
    """What a device begins a round of SCAFFOLD with: its own control variate, and the server's."""

    own: NDArray[np.float32]
    server: NDArray[np.float32]


def begun(device: Device, round_id: str, seed: int, without: str = "") -> Begun:
    """Learn in a round that trains, send nothing, and say what it began with.

    `without`: a word that a workbench of before does not say.
    """
    part = device._part(round_id)
    assignment = part.await_assignment(20)
    assert assignment is not None
    told = {name: value for name, value in assignment.items() if name != without}
    layout = Layout.from_json(told["model"]["layout"])
    _, server = part._fetch(told, layout)
    learned, _ = part.learned(told, rows_of(seed))
    assert server is not None
    assert learned.control_delta is not None
    return Begun(part._to_remember["control"] - learned.control_delta, server)


def of_both(devices: tuple[Device, Device], round_id: str) -> list[Begun]:
    """The same of two devices at once, which the round waits for."""
    for device in devices:
        device.join(round_id)
    return [begun(device, round_id, seed) for seed, device in enumerate(devices)]


def fails_after_a_receipt(fleet: Fleet, device: Device, campaign: str, number: int) -> None:
    """A round in which a device's update is accepted, and that fails for all that."""
    round_id, lost = found_in(fleet, campaign, number, "recruiting"), fleet.enroll("one that is stolen")
    lost.join(round_id)
    took = device.take_part(round_id, rows_of(0))
    assert took is not None
    assert took.status == "accepted"
    send_away(fleet, lost, "revoke")
    assert fleet.over(round_id)["phase"] == "failed"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_round_that_fails_leaves_the_servers_control_variate_the_mean_of_the_devices(
    fleet: Fleet, pair: tuple[Device, Device], failing: int
) -> None:
    campaign = fleet.start(rounds=4, strategy="scaffold")["campaign_id"]
    for number in (1, 2, 3):
        if number == failing:
            fails_after_a_receipt(fleet, pair[0], campaign, number)
        else:
            both(pair, found_in(fleet, campaign, number, "recruiting"))
    found = of_both(pair, found_in(fleet, campaign, 4, "recruiting"))
    assert np.abs(found[0].own - found[1].own).max() > 0.01
    for each in found:
        np.testing.assert_allclose(each.server, np.mean([one.own for one in found], 0), atol=1e-5)
    cancel(fleet, campaign)


@contextmanager
def deaf_to_receipts(device: Device) -> Iterator[None]:
    """A block in which what the workbench says of an update is lost on its way."""
    carried = device._connection.post

    def post(path: str, *rest: Any, **more: Any) -> dict[str, Any]:
        told = carried(path, *rest, **more)
        if path.endswith("/submit"):
            raise CallFailed("the line broke")
        return told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device._connection, "post", post)
        yield


def test_what_is_in_a_model_counts_also_without_its_receipt(fleet: Fleet, hermit: Device) -> None:
    campaign = started(fleet, strategy="scaffold")
    first = found_in(fleet, campaign, 1, "recruiting")
    with deaf_to_receipts(hermit), pytest.raises(CallFailed):
        hermit.take_part(first, rows_of(1))
    assert hermit._part(first).kept() is not None
    back, second = Device(hermit._folder.path), found_in(fleet, campaign, 2, "recruiting")
    back.join(second)
    found = begun(back, second, 2)
    np.testing.assert_allclose(found.own, found.server, atol=1e-5)
    assert np.abs(found.own).max() > 0.01
    assert back._part(first).kept() is None
    cancel(fleet, campaign)
    back.close()


def test_what_was_left_out_of_a_lost_update_does_not_count(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    campaign = fleet.start(rounds=2, **TOP_K)["campaign_id"]
    fails_after_a_receipt(fleet, pair[0], campaign, 1)
    again = found_in(fleet, campaign, 2, "recruiting")
    for device in pair:
        device.join(again)
    part = pair[0]._part(again)
    assignment = part.await_assignment(20) or {}
    _, learned = part.learn(assignment, rows_of(0))
    waits = part._to_remember["residual"]
    assert np.any(waits != 0)
    assert np.all((waits == 0) | (waits == learned.delta))  # and what waited in the lost round is not in it
    cancel(fleet, campaign)


def test_a_workbench_that_does_not_say_what_counts_is_believed_by_its_receipts(
    fleet: Fleet, hermit: Device
) -> None:
    campaign = started(fleet, strategy="scaffold")
    serve(fleet, hermit, campaign, 1)
    second = found_in(fleet, campaign, 2, "recruiting")
    hermit.join(second)
    found = begun(hermit, second, 2, without="last_counted_round")
    np.testing.assert_allclose(found.own, found.server, atol=1e-5)
    assert np.abs(found.own).max() > 0.01
    cancel(fleet, campaign)
