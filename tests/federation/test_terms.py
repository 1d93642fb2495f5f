"""A device's own terms: whatever the workbench asks, no update leaves it that they forbid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.federation.conftest import Fleet, rows_of
from tg_workbench.errors import InvalidRequest, SecureAggregationRefused, TermsNotMet
from tg_workbench.sdk.device import Device, Terms

MASKED = {"participant_criteria": {"min_participants": 3, "quorum": 3}, "secure_aggregation": True}


@pytest.fixture(scope="module")
def careful(fleet: Fleet) -> Device:
    return fleet.enroll("careful", terms=Terms(only_masked=True))


@pytest.fixture(scope="module")
def others(fleet: Fleet) -> tuple[Device, ...]:
    return tuple(fleet.enroll(f"trusting {number}") for number in range(2))


def submitted(fleet: Fleet, round_id: str, device: Device) -> bool:
    return fleet.parts(round_id).get(device.id, {}).get("status") in ("submitted", "accepted")


def test_an_update_without_masks_does_not_leave_a_device_that_insists_on_them(
    fleet: Fleet, careful: Device, others: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = fleet.start(participant_criteria={"min_participants": 2, "quorum": 1}, training_seconds=6)
    fleet.recruiting(started["id"])
    fetched: list[str] = []
    monkeypatch.setattr(careful._connection, "download", fetched.append)
    for device in (careful, others[0]):
        device.join(started["id"])
    with pytest.raises(TermsNotMet, match="without secure aggregation"):
        careful.take_part(started["id"], rows_of(2))
    assert fetched == []
    assert not submitted(fleet, started["id"], careful)
    assert others[0].take_part(started["id"], rows_of(1)) is not None
    assert fleet.campaign_over(started["campaign_id"])["status"] == "completed"


def test_it_joins_no_round_without_masks_and_those_with(
    fleet: Fleet, careful: Device, others: tuple[Device, ...]
) -> None:
    bare = fleet.start()
    masked = fleet.start(**MASKED)
    for started in (bare, masked):
        fleet.recruiting(started["id"])
    offered: dict[str, Any] = {each["id"]: each["secure_aggregation"] for each in careful.rounds()}
    assert (offered[bare["id"]], offered[masked["id"]]) == (False, True)
    with ThreadPoolExecutor(3) as pool:
        parts = [pool.submit(each.take_part, masked["id"], rows_of(3)) for each in others]
        (took,) = careful.learn(rows_of(4), rounds=1, idle=60)
        assert [part.result(60) is not None for part in parts] == [True, True]
    assert took.round_id == masked["id"]
    assert careful.id not in fleet.parts(bare["id"])
    with ThreadPoolExecutor(2) as pool:  # whoever comes after would be offered what is left
        assert None not in list(pool.map(lambda each: each.take_part(bare["id"], rows_of(3)), others))


def test_it_masks_against_no_fewer_than_it_insists_on(fleet: Fleet, others: tuple[Device, ...]) -> None:
    choosy = fleet.enroll("choosy", terms=Terms(only_masked=True, least_devices=4))
    masked = fleet.start(**MASKED, training_seconds=15)
    fleet.recruiting(masked["id"])
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(each.take_part, masked["id"], rows_of(3)) for each in others]
        with pytest.raises(SecureAggregationRefused, match="left: 3, that are needed: 4"):
            choosy.take_part(masked["id"], rows_of(5))
        assert [type(part.exception(60)) for part in parts] == [SecureAggregationRefused] * 2
    assert fleet.over(masked["id"])["phase"] == "failed"
    assert not submitted(fleet, masked["id"], choosy)


def test_terms_below_what_secure_aggregation_has_anyway_are_a_mistake() -> None:
    with pytest.raises(InvalidRequest, match="3 or more"):
        Terms(only_masked=True, least_devices=2)
