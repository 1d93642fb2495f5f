"""Devices: missed once, and not for a time when nobody was here to see them."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DeviceNotFound
from tg_workbench.events import EventRow
from tg_workbench.federation.devices import Device, DeviceQuery, Devices, DeviceStatus, device_status_of
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.outbox import Notice
from tg_workbench.storage.database import now

STRANGER = Principal("eve", "eves", frozenset({"read", "admin"}))


def told(session: Session, kind: str) -> int:
    return session.exec(select(sa.func.count()).where(col(EventRow.type) == kind)).one()


def unseen(session: Session, device: Device, seconds: float) -> None:
    device.last_seen = now() - seconds
    session.add(device)
    session.flush()


def test_a_device_is_missed_after_two_intervals_and_once(session: Session, device: Device) -> None:
    devices = Devices(session)
    unseen(session, device, 590)
    assert (devices.is_missing(0), devices.miss(0)) == (False, 0)
    unseen(session, device, 610)
    assert (devices.is_missing(0), devices.miss(0)) == (True, 1)
    assert (devices.is_missing(0), devices.miss(0)) == (False, 0)
    assert device_status_of(device) is DeviceStatus.OFFLINE
    assert told(session, "device_offline") == 1
    offline = session.exec(select(Notice).where(Notice.event == "device.offline")).all()
    assert len(offline) == 1


def test_nobody_is_missed_for_the_time_when_the_server_was_away(session: Session, device: Device) -> None:
    unseen(session, device, 100_000)
    assert Devices(session).miss(since=now() - 590) == 0
    assert Devices(session).miss(since=now() - 610) == 1


def test_coming_back_is_told_once(session: Session, device: Device) -> None:
    unseen(session, device, 100_000)
    Devices(session).miss(0)
    for _ in range(3):
        Devices(session).seen(device)
    assert told(session, "device_online") == 1
    assert device_status_of(device) is DeviceStatus.ONLINE


def test_a_device_in_a_round_is_training_while_it_is_there(session: Session, device: Device) -> None:
    device.current_round_id = "round_1"
    session.add(device)
    session.flush()
    assert device_status_of(device) is DeviceStatus.TRAINING
    for status, count in ((DeviceStatus.TRAINING, 1), (DeviceStatus.ONLINE, 0), (DeviceStatus.OFFLINE, 0)):
        assert Devices(session).list_page(LOCAL_PRINCIPAL, DeviceQuery(status))[1] == count
    Devices(session).revoke(device, "stolen")
    assert device_status_of(device) is DeviceStatus.OFFLINE
    assert Devices(session).list_page(LOCAL_PRINCIPAL, DeviceQuery(DeviceStatus.TRAINING))[1] == 0


def test_one_that_was_sent_away_is_seen_by_nobody_and_remembered(session: Session, device: Device) -> None:
    Devices(session).deregister(device)
    with pytest.raises(DeviceNotFound):
        Devices(session).get(LOCAL_PRINCIPAL, device.id)
    assert Devices(session).counts().total == 0
    assert session.get(Device, device.id) is not None


def test_nobody_finds_the_device_of_another_organisation(session: Session, device: Device) -> None:
    with pytest.raises(DeviceNotFound):
        Devices(session).get(STRANGER, device.id)
    assert Devices(session).list_page(STRANGER, DeviceQuery()) == ([], 0)
