"""Devices and campaigns from the SDK: a person's side, with real devices on the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.federation.attacking import asked
from tests.federation.conftest import CLASSES, SIDE, Fleet, rows_of
from tg_workbench import (
    CampaignFailed,
    CampaignNotFound,
    DeadlineExceeded,
    DeviceNotFound,
    InvalidRequest,
    NotFound,
    PrivacyRefused,
    RoundNotFound,
    Workbench,
)
from tg_workbench.errors import DeviceRevoked, EnrollmentTokenExpired
from tg_workbench.sdk import Campaign
from tg_workbench.sdk.device import Device

QUICK: dict[str, Any] = {
    "input_shape": [SIDE],
    "output_size": CLASSES,
    "learning_rate": 0.5,
    "batch_size": 8,
    "epochs": 2,
}


@pytest.fixture(scope="session")
def workbench(fleet: Fleet) -> Iterator[Workbench]:
    """The running workbench, as whoever looks after the devices sees it."""
    with Workbench(socket=str(fleet.server.socket), api_key=fleet.server.api_key) as workbench:
        yield workbench


def learned_by(pair: tuple[Device, Device], campaign: Campaign) -> list[threading.Thread]:
    """Have two devices learn in each of a campaign's rounds, in threads that have begun."""
    threads = [
        threading.Thread(
            target=device.learn, args=(rows_of(seed),), kwargs={"rounds": campaign.view.rounds, "idle": 60}
        )
        for seed, device in enumerate(pair)
    ]
    for thread in threads:
        thread.start()
    return threads


def test_a_device_learns_in_one_round_at_least(pair: tuple[Device, Device]) -> None:
    wrongs: list[dict[str, Any]] = [{"rounds": 0}, {"rounds": -1}, {"idle": -1.0}, {"idle": float("nan")}]
    for wrong in wrongs:
        with pytest.raises(InvalidRequest, match="or more"):
            pair[0].learn(rows_of(0), **wrong)


# ----------------------------------------------------------------------------- campaigns
def test_a_campaign_is_awaited_while_the_kernel_stays_free(
    workbench: Workbench, pair: tuple[Device, Device]
) -> None:
    async def wait() -> Campaign:
        campaign = workbench.federation.start("logistic", rounds=2, min_participants=2, name="two", **QUICK)
        threads = await asyncio.to_thread(learned_by, pair, campaign)
        beats = asyncio.create_task(asyncio.sleep(0.01))
        await campaign
        assert beats.done()
        for thread in threads:
            await asyncio.to_thread(thread.join, 60)
        return campaign

    campaign = asyncio.run(wait())
    assert (campaign.view.status, campaign.view.moment.fraction) == ("completed", 1.0)
    assert repr(campaign).startswith("<Campaign two: completed · round 2/2 · accuracy ")
    first, second = campaign.rounds()
    assert (first.number, second.number, second.phase) == (1, 2, "completed")
    assert (second.progress.completed_devices, second.participants) == (2, 2)
    assert str(second).startswith("round 2/2 · completed · 2 of 2 devices · accuracy ")
    for which in (first, first.id, 1):
        parts = campaign.participations(which)
        assert {part.device_id for part in parts} == {device.id for device in pair}
        assert [part.status for part in parts] == ["accepted", "accepted"]
        assert [part.sample_count for part in parts] == [40, 40]
    assert campaign.participations()[0].submitted_at is not None
    assert [part.status for part in workbench.federation.participations(second)] == ["accepted"] * 2
    model = campaign.model
    assert model is not None
    assert model.family == "two"
    answers = model.predict(rows_of(9)["features"])
    assert len(answers) == 40


def test_a_campaign_is_found_again_and_cancelled(workbench: Workbench) -> None:
    campaign = workbench.federation.start(
        "logistic", min_participants=5, strategy="trimmed-mean", strategy_options={"cut": 0.25}, **QUICK
    )
    found = workbench.federation[campaign.id]
    assert (found.view.strategy, found.view.config["strategy_options"]) == ("trimmed-mean", {"cut": 0.25})
    assert campaign.id in [each.id for each in workbench.federation.list()]
    newest = workbench.federation.rounds()[0]
    assert (newest.campaign_id, newest.min_participants) == (campaign.id, 5)
    assert workbench.federation.round(newest.id).is_over is False
    with pytest.raises(DeadlineExceeded, match="goes on"):
        campaign.wait(timeout=0.1, progress=False)
    assert found.cancel().status == "cancelled"
    assert campaign.wait(progress=False).view.status == "cancelled"
    assert campaign.model is None


def test_all_rounds_of_a_long_campaign_are_told_in_order(workbench: Workbench, fleet: Fleet) -> None:
    campaign = workbench.federation.start("logistic", rounds=500, min_participants=9, **QUICK)
    (newest,) = campaign.rounds()
    asked(fleet.server.home, "UPDATE rounds SET number = 131 WHERE campaign_id = ?", campaign.id)
    kept = "campaign_id, tenant_id, base_version, figures, created_at"
    for number in range(1, 131):
        question = (
            f"INSERT INTO rounds (id, number, phase, {kept}) "  # noqa: S608
            f"SELECT id || ?, ?, 'completed', {kept} FROM rounds WHERE id = ?"
        )
        asked(fleet.server.home, question, f"-{number}", number, newest.id)
    seen = campaign.refresh()
    assert (seen.rounds_begun, [each.number for each in seen.history]) == (131, list(range(82, 132)))
    for _ in range(2):  # the second time most are known
        assert [each.number for each in campaign.rounds()] == list(range(1, 132))
    assert workbench.federation[campaign.id].participations(2) == []
    with pytest.raises(InvalidRequest, match="131 rounds"):
        campaign.participations(132)
    campaign.cancel()


def test_a_campaign_that_nobody_joins_says_so(workbench: Workbench) -> None:
    campaign = workbench.federation.start("logistic", min_participants=2, recruiting_seconds=1.0, **QUICK)
    with pytest.raises(CampaignFailed, match="0 of at least 2 devices had joined") as failure:
        campaign.wait(timeout=60, progress=False)
    assert failure.value.campaign_id == campaign.id


def test_what_there_is_not_is_told_in_words(workbench: Workbench) -> None:
    with pytest.raises(CampaignNotFound):
        workbench.federation["camp_00000000000000000000000000000000"]
    with pytest.raises(RoundNotFound):
        workbench.federation.round("round_00000000000000000000000000000000")
    with pytest.raises(RoundNotFound):
        workbench.federation.participations("round_00000000000000000000000000000000")
    with pytest.raises(DeviceNotFound):
        workbench.devices["dev_00000000000000000000000000000000"]
    with pytest.raises(InvalidRequest, match="use one of"):
        workbench.federation.start("logistic", strategy="magic")
    campaign = workbench.federation.list(limit=1)[0]
    with pytest.raises(InvalidRequest, match="the first is number 1"):
        campaign.participations(99)


def test_a_private_campaign_says_what_it_plans_to_spend(workbench: Workbench) -> None:
    campaign = workbench.federation.start("logistic", rounds=2, noise_level=5.0, **QUICK)
    (first,) = campaign.rounds()
    assert first.epsilon is None
    assert 0.5 < (first.planned_epsilon or 0.0) < 3.0
    campaign.cancel()
    with pytest.raises(PrivacyRefused, match="cap"):
        workbench.federation.start("logistic", noise_level=0.1, **QUICK)
    with pytest.raises(PrivacyRefused, match="cap"):
        workbench.federation.start("logistic", privacy={"noise_level": 0.1}, **QUICK)
    with pytest.raises(InvalidRequest, match="clip_norm"):
        workbench.federation.start("logistic", target_epsilon=1.0, privacy={"clip_norm": 0}, **QUICK)


# ----------------------------------------------------------------------------- devices
def test_a_device_is_let_in_looked_at_changed_and_shut_out(workbench: Workbench, fleet: Fleet) -> None:
    token = workbench.devices.enrollment_token("ward 4")
    assert token.enrollment_token is not None
    assert token.enrollment_token not in repr(token)
    assert token.enrollment_token_id in [
        each.enrollment_token_id for each in workbench.devices.enrollment_tokens()
    ]
    device = Device.enroll(
        token.enrollment_token,
        token.organization_id,
        socket=str(fleet.server.socket),
        folder=fleet.folder / "ward-4",
        name="ward 4",
    )
    device.heartbeat()
    seen = workbench.devices[device.id]
    assert (seen.name, seen.status, seen.is_revoked) == ("ward 4", "online", False)
    assert str(seen) == f"ward 4 ({device.id}): online, 0 rounds"
    assert device.id in [each.id for each in workbench.devices.list(status="online")]
    assert 1 <= workbench.devices.count(status="online") <= workbench.devices.count()
    changed = workbench.devices.change(
        seen, name="ward 5", capabilities={"gpu": True}, update_interval=30, learning_rate=0.2
    )
    assert (changed.name, changed.capabilities["gpu"]) == ("ward 5", True)
    assert changed.config["update_interval"] == 30
    assert changed.config["training_config"]["learning_rate"] == 0.2
    assert workbench.devices.revoke(changed, "key_compromise").is_revoked
    with pytest.raises(DeviceRevoked):
        device.heartbeat()
    workbench.devices.deregister(changed)
    with pytest.raises(DeviceNotFound):
        workbench.devices.get(changed)
    device.close()


def test_a_token_that_was_withdrawn_lets_nobody_in(workbench: Workbench, fleet: Fleet) -> None:
    token = workbench.devices.enrollment_token(expires_in_hours=1)
    workbench.devices.withdraw(token)
    with pytest.raises(EnrollmentTokenExpired):
        Device.enroll(
            str(token.enrollment_token),
            token.organization_id,
            socket=str(fleet.server.socket),
            folder=fleet.folder / "nobody",
        )
    with pytest.raises(NotFound):
        workbench.devices.withdraw(token)


def test_keys_are_listed_and_rotated(workbench: Workbench, fleet: Fleet) -> None:
    device = fleet.enroll("one with keys")
    (key,) = workbench.devices.keys(device.id).keys
    assert (key.device_id, key.status, key.parameter_set) == (device.id, "active", "ML-KEM-768")
    everybodys = workbench.devices.keys()
    assert everybodys.total >= 1
    assert everybodys.interval_days == 30
    assert everybodys.next_rotation is not None
    forced = workbench.devices.rotate_keys(device.id, grace_hours=1)
    assert (forced.devices, forced.status) == (1, "rotating")
    assert device.heartbeat()["rotate_keys"] is True
    newest, version = workbench.devices.key_history(device.id)  # the heartbeat has brought new ones
    assert newest.status == "active"
    assert (version.key_version, version.status) == (key.key_version, "rotating")
    assert version.thumbprint is not None
