"""Whom devices believe: the server they were enrolled with, whatever keys it has by now, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.federation.attacking import asked
from tests.federation.conftest import Fleet, rows_of
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.device.folder import DeviceFolder
from tg_workbench.errors import AssignmentInvalid
from tg_workbench.sdk.device import Device

ONE = {"participant_criteria": {"min_participants": 1}}


def rotate_server(fleet: Fleet) -> None:
    """New keys for the server; devices are to change theirs, too."""
    answer = fleet.http.post("/api/v1/security/keys/rotate", json={})
    assert answer.status_code == 200, answer.text
    assert answer.json()["server_key_version"]


def take_part(fleet: Fleet, device: Device) -> str:
    """The status of a device's part in a round of its own."""
    started = fleet.start(**ONE)
    fleet.recruiting(started["id"])
    took = device.take_part(started["id"], rows_of(1))
    assert took is not None
    assert fleet.over(started["id"])["status"] == "completed"
    return took.status


def test_a_device_follows_the_server_through_several_new_keys(fleet: Fleet) -> None:
    device = fleet.enroll()
    for _ in range(3):
        rotate_server(fleet)
    assert take_part(fleet, device) in ("accepted", "submitted")
    again = Device(device._folder.path)
    assert take_part(fleet, again) in ("accepted", "submitted")
    again.close()


def test_a_device_changes_its_keys_when_it_is_told_to(fleet: Fleet) -> None:
    device = fleet.enroll()
    before = device._identity.key_version
    rotate_server(fleet)
    device.heartbeat()
    assert device._identity.key_version != before
    assert take_part(fleet, device) in ("accepted", "submitted")
    again = Device(device._folder.path)
    assert again._identity.key_version == device._identity.key_version
    again.close()


def test_a_device_does_nothing_for_a_stranger_with_keys_of_their_own(fleet: Fleet) -> None:
    device = fleet.enroll()
    stranger = SigningKey.generate().public
    folder = DeviceFolder(device._folder.path)
    told = folder.read()
    folder.write(replace(told, server_key=stranger, server_key_version="v0.0"))
    fooled = Device(device._folder.path)
    started = fleet.start(**ONE)
    fleet.recruiting(started["id"])
    with pytest.raises(AssignmentInvalid, match="has not signed"):
        fooled.take_part(started["id"], rows_of(1))
    fooled.close()
    assert fleet.parts(started["id"])[device.id]["status"] == "joined"
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")


@contextmanager
def answers_lost(device: Device) -> Iterator[None]:
    """A block in which a device dies when it should hear that its new keys were certified."""
    carried = device._connection.post

    def post(path: str, *rest: Any, **more: Any) -> dict[str, Any]:
        told = carried(path, *rest, **more)
        if path.endswith("/keys"):
            raise ConnectionError
        return told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device._connection, "post", post)
        yield


@pytest.mark.parametrize("is_back", ["at once", "when its last keys are too old"])
def test_a_device_that_dies_as_its_new_keys_are_certified_is_not_locked_out(
    fleet: Fleet, is_back: str
) -> None:
    device = fleet.enroll("one that dies and rotates")
    for _ in range(3):  # each time it offers the same ones, and those it has stay good
        with answers_lost(device), pytest.raises(ConnectionError):
            device.rotate_keys()
    if is_back != "at once":
        over = "UPDATE device_keys SET retires_at = 1.0 WHERE device_id = ? AND status = 'rotating'"
        asked(fleet.server.home, over, device.id)
    back = Device(device._folder.path)
    back.heartbeat()
    assert [path.name for path in device._folder.path.iterdir()] == ["device.json"]
    asked(
        fleet.server.home,
        "UPDATE device_keys SET retires_at = 1.0 WHERE device_id = ? AND status != 'active'",
        device.id,
    )
    again = Device(device._folder.path)
    assert again.heartbeat()["key_version"] == back._identity.key_version
    for each in (back, again):
        each.close()
