"""Device keys: at most two versions are good, and each for its time."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from tg_workbench.federation.devices import (
    CertificateOffice,
    Device,
    DeviceKeys,
    Enrolled,
    KeyPairs,
    KeyQuery,
    KeyStatus,
    is_due,
    key_status_of,
)
from tg_workbench.federation.devices.device_keys import DAY_SECONDS, MOST_VERSIONS, is_good
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.storage.database import now

STRANGER = Principal("eve", "eves", frozenset({"read", "admin"}))


def versions(session: Session, device: Device) -> list[tuple[str, str]]:
    return [(key.version, key.status) for key in DeviceKeys(session).versions(device.id)]


def test_new_keys_count_up_and_the_last_ones_rotate(
    session: Session, device: Device, office: CertificateOffice
) -> None:
    keys = DeviceKeys(session)
    for _ in range(2):
        keys.rotate(device, KeyPairs.made(), office)
    assert versions(session, device) == [("v3.0", "active"), ("v2.0", "rotating"), ("v1.0", "retired")]
    assert [key.version for key in keys.good(device.id)] == ["v3.0", "v2.0"]
    assert device.key_version == "v3.0"


def test_the_same_keys_again_are_a_new_certificate(
    session: Session, enrolled: Enrolled, office: CertificateOffice
) -> None:
    key = DeviceKeys(session).rotate(enrolled.device, enrolled.pairs, office)
    assert (key.version, key.expires_at) == ("v1.1", enrolled.key.expires_at)
    assert key.thumbprint != enrolled.key.thumbprint


def test_who_signs_in_by_older_keys_and_offers_the_newest_again_loses_none(
    session: Session, enrolled: Enrolled, office: CertificateOffice
) -> None:
    keys, pairs, device = DeviceKeys(session), KeyPairs.made(), enrolled.device
    first = keys.rotate(device, pairs, office, by=enrolled.key)
    assert keys.rotate(device, pairs, office, by=enrolled.key).id == first.id
    assert versions(session, device) == [("v2.0", "active"), ("v1.0", "rotating")]
    assert keys.rotate(device, pairs, office, by=first).version == "v2.1"
    keys.force(LOCAL_PRINCIPAL, device.id, 3600)
    assert keys.rotate(device, pairs, office, by=first).version == "v2.2"


@pytest.mark.parametrize("end", ["retires_at", "expires_at", "certificate_expires_at"])
def test_a_version_is_good_until_the_first_of_its_ends(enrolled: Enrolled, end: str) -> None:
    assert is_good(enrolled.key, now())
    setattr(enrolled.key, end, now() - 1)
    assert not is_good(enrolled.key, now())


def test_a_version_whose_grace_is_over_is_retired_whatever_its_row_says(
    session: Session, device: Device
) -> None:
    keys = DeviceKeys(session)
    assert keys.force(LOCAL_PRINCIPAL, device.id, 0).devices == 1
    session.expire_all()
    (key,) = keys.versions(device.id)
    assert (key.status, key_status_of(key, now())) == ("rotating", KeyStatus.RETIRED)
    assert keys.list_page(LOCAL_PRINCIPAL, KeyQuery(status=KeyStatus.ROTATING))[1] == 0
    assert keys.list_page(LOCAL_PRINCIPAL, KeyQuery(status=KeyStatus.RETIRED))[1] == 1
    assert keys.good(device.id) == []


def test_a_month_after_it_came_a_version_is_due(session: Session, enrolled: Enrolled) -> None:
    assert not is_due(enrolled.key, now())
    assert is_due(enrolled.key, now() + 30 * DAY_SECONDS)
    due = DeviceKeys(session).next_rotation(LOCAL_PRINCIPAL)
    assert due == pytest.approx(enrolled.key.created_at + 30 * DAY_SECONDS)


def test_nobody_sees_the_keys_of_another_organisation(session: Session, device: Device) -> None:
    keys = DeviceKeys(session)
    assert keys.list_page(STRANGER, KeyQuery(device_id=device.id)) == ([], 0)
    assert keys.next_rotation(STRANGER) is keys.last_rotation(STRANGER) is None


def test_a_bounded_number_of_versions_is_remembered(
    session: Session, enrolled: Enrolled, office: CertificateOffice
) -> None:
    for _ in range(MOST_VERSIONS + 3):
        DeviceKeys(session).rotate(enrolled.device, enrolled.pairs, office)
    assert len(DeviceKeys(session).versions(enrolled.device.id, 1000)) == MOST_VERSIONS
