"""Device keys: every version that a device has had, which of them are good now, and when they must change.

A version is `active` until the next one comes; then it is `rotating` and still good for a time of grace, and
`retired` after it. `revoked` is for good. One version is active at a time, so at most two are good.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DeviceNotFound, DeviceNotOnline
from tg_workbench.events import Events, KeyRotated, KeyRotationForced, tenant_subject
from tg_workbench.federation.devices.certificate_office import CertificateOffice
from tg_workbench.federation.devices.key_pairs import KeyPairs
from tg_workbench.federation.devices.tables import Device, DeviceKey
from tg_workbench.identity import Principal
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage.database import now

DAY_SECONDS = 86_400.0
INTERVAL_DAYS = 30
"""How old keys get before new ones are due."""
LIFETIME_DAYS = 90
"""How old keys get before they are good no more."""
GRACE_SECONDS = 7 * DAY_SECONDS
MOST_VERSIONS = 100
"""How many versions of one device are remembered."""


class KeyStatus(StrEnum):
    """Where a version stands."""

    ACTIVE = "active"
    ROTATING = "rotating"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """Which versions are asked for."""

    device_id: str | None = None
    status: KeyStatus | None = None


@dataclass(frozen=True, slots=True)
class Forced:
    """A rotation that was forced: of how many devices, and by when they have to bring new keys."""

    devices: int
    deadline: float


class DeviceKeys:
    """The keys of every device. Only the public halves are here."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, device: Device, pairs: KeyPairs, office: CertificateOffice) -> DeviceKey:
        """The next version of a device's keys, with a certificate.

        The same keys again get a new certificate: `vN.M` becomes `vN.M+1`, and otherwise `vN+1.0`.
        """
        newest = self.newest(device.id)
        certificate = office.issue(pairs.signing, device.id)
        same = newest is not None and (newest.signing_key, newest.encryption_key) == (
            pairs.signing.raw,
            pairs.encryption,
        )
        major, minor = (0, 0) if newest is None else (newest.major, newest.minor)
        key = DeviceKey(
            id=f"dkey_{secrets.token_hex(16)}",
            device_id=device.id,
            organization_id=device.organization_id,
            major=major if same else major + 1,
            minor=minor + 1 if same else 0,
            encryption_key=pairs.encryption,
            signing_key=pairs.signing.raw,
            origin=pairs.origin,
            certificate=certificate.pem,
            serial=certificate.serial,
            thumbprint=certificate.thumbprint,
            certificate_expires_at=certificate.not_after,
            status=KeyStatus.ACTIVE,
            expires_at=newest.expires_at if same and newest else now() + LIFETIME_DAYS * DAY_SECONDS,
        )
        self.session.add(key)
        device.key_version, device.certificate_expires_at = key.version, key.certificate_expires_at
        self.session.add(device)
        self.session.flush()
        return key

    def rotate(
        self, device: Device, pairs: KeyPairs, office: CertificateOffice, *, by: DeviceKey | None = None
    ) -> DeviceKey:
        """New keys for a device that has some; those that it had last stay good for a time of grace.

        A device that signs in `by` older ones has not heard that these were certified: they stay as they are,
        or those it signs in by would not be good any more.
        """
        newest = self.newest(device.id)
        if (
            newest is not None
            and newest.status == KeyStatus.ACTIVE
            and (newest.signing_key, newest.encryption_key) == (pairs.signing.raw, pairs.encryption)
            and by is not None
            and by.id != newest.id
        ):
            return newest
        self._begin_grace(now() + GRACE_SECONDS, col(DeviceKey.device_id) == device.id)
        key = self.add(device, pairs, office)
        self._forget_oldest(device.id)
        fact = KeyRotated(device.id, key.version, key.origin)
        Events(self.session).record(tenant_subject(device.organization_id), fact)
        told = {"device_id": device.id, "organization_id": device.organization_id, "key_version": key.version}
        Outbox(self.session).put(device.organization_id, WebhookEvent.KEY_ROTATED, told)
        return key

    def force(
        self, asking: Principal, device_id: str | None = None, grace_seconds: float = GRACE_SECONDS
    ) -> Forced:
        """Have a device, or every device of the asker's organisation, bring new keys within a time of grace.

        What they have now is good until then. Without any grace a device has to be online, or it would be
        locked out. Raises DeviceNotFound, DeviceNotOnline.
        """
        deadline, organization_id = now() + grace_seconds, asking.tenant_id
        which = [col(DeviceKey.organization_id) == organization_id]
        if device_id is not None:
            device = self._device(asking, device_id)
            if grace_seconds <= 0 and not device.is_online:
                raise DeviceNotOnline
            organization_id, which = device.organization_id, [col(DeviceKey.device_id) == device_id]
        devices = self._begin_grace(deadline, *which)
        fact = KeyRotationForced(device_id, deadline)
        Events(self.session).record(tenant_subject(organization_id), fact)
        told = {
            "organization_id": organization_id,
            "device_id": device_id,
            "forced": True,
            "devices": devices,
        }
        Outbox(self.session).put(organization_id, WebhookEvent.KEY_ROTATED, told)
        return Forced(devices, deadline)

    def revoke(self, device: Device) -> None:
        """End every version that is good now: at once, and for good."""
        good = col(DeviceKey.status).in_((KeyStatus.ACTIVE, KeyStatus.ROTATING))
        ending = sa.update(DeviceKey).where(col(DeviceKey.device_id) == device.id, good)
        self.session.exec(ending.values(status=KeyStatus.REVOKED, revoked_at=now()))

    def newest(self, device_id: str) -> DeviceKey | None:
        """A device's newest version."""
        return next(iter(self.versions(device_id, 1)), None)

    def versions(self, device_id: str, most: int = MOST_VERSIONS) -> list[DeviceKey]:
        """A device's versions, the newest first."""
        query = select(DeviceKey).where(col(DeviceKey.device_id) == device_id)
        newest_first = (col(DeviceKey.major).desc(), col(DeviceKey.minor).desc())
        return list(self.session.exec(query.order_by(*newest_first).limit(most)))

    def good(self, device_id: str) -> list[DeviceKey]:
        """Those of a device's versions that are good now, the newest first: two at most."""
        moment = now()
        return [key for key in self.versions(device_id, 2) if is_good(key, moment)]

    def list_page(
        self, asking: Principal, query: KeyQuery, *, limit: int = 100, offset: int = 0
    ) -> tuple[list[DeviceKey], int]:
        """The versions of the devices that the asker sees, newest first, and how many there are."""
        which = [*_readable(asking)]
        if query.device_id is not None:
            which.append(col(DeviceKey.device_id) == query.device_id)
        if query.status is not None:
            which.append(_stands(query.status))
        total = self.session.exec(select(sa.func.count()).select_from(DeviceKey).where(*which)).one()
        newest_first = (col(DeviceKey.created_at).desc(), col(DeviceKey.id))
        found = select(DeviceKey).where(*which).order_by(*newest_first).limit(limit).offset(offset)
        return list(self.session.exec(found)), total

    def last_rotation(self, asking: Principal) -> float | None:
        """When a device that the asker sees last got new keys; None: never yet."""
        query = sa.select(sa.func.max(col(DeviceKey.created_at))).where(*_readable(asking))
        return self.session.execute(query).scalar()

    def next_rotation(self, asking: Principal) -> float | None:
        """When the next keys of the devices that the asker sees are due; None: there are none."""
        query = sa.select(sa.func.min(col(DeviceKey.created_at)))
        query = query.where(*_readable(asking), col(DeviceKey.status) == KeyStatus.ACTIVE)
        oldest = self.session.execute(query).scalar()
        return None if oldest is None else oldest + INTERVAL_DAYS * DAY_SECONDS

    def _begin_grace(self, until: float, *which: sa.ColumnElement[bool]) -> int:
        """What is active is rotating from now on; what was rotating beside it is retired. How many."""
        active = select(DeviceKey.device_id).where(*which, col(DeviceKey.status) == KeyStatus.ACTIVE)
        replaced = sa.update(DeviceKey).where(
            col(DeviceKey.status) == KeyStatus.ROTATING, col(DeviceKey.device_id).in_(active)
        )
        self.session.exec(replaced.values(status=KeyStatus.RETIRED, retires_at=now()))
        begun = sa.update(DeviceKey).where(*which, col(DeviceKey.status) == KeyStatus.ACTIVE)
        return self.session.exec(begun.values(status=KeyStatus.ROTATING, retires_at=until)).rowcount

    def _forget_oldest(self, device_id: str) -> None:
        """Remember a bounded number of versions."""
        for key in self.versions(device_id, MOST_VERSIONS + 10)[MOST_VERSIONS:]:
            self.session.delete(key)
        self.session.flush()

    def _device(self, asking: Principal, device_id: str) -> Device:
        device = self.session.get(Device, device_id)
        if device is None or device.ended_at is not None:
            raise DeviceNotFound
        if not asking.is_operator and device.organization_id != asking.tenant_id:
            raise DeviceNotFound
        return device


def _readable(asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
    """Those of the asker's organisation; the operator's are all of them."""
    return () if asking.is_operator else (col(DeviceKey.organization_id) == asking.tenant_id,)


def is_good(key: DeviceKey, moment: float) -> bool:
    """Whether a version counts: its status, its age and its certificate."""
    return (
        key.status in (KeyStatus.ACTIVE, KeyStatus.ROTATING)
        and (key.retires_at is None or key.retires_at > moment)
        and min(key.expires_at, key.certificate_expires_at) > moment
    )


def key_status_of(key: DeviceKey, moment: float) -> KeyStatus:
    """Where a version stands: one whose time of grace is over is retired, whatever its row still says."""
    if key.status == KeyStatus.ROTATING and not is_good(key, moment):
        return KeyStatus.RETIRED
    return KeyStatus(key.status)


def is_due(key: DeviceKey, moment: float) -> bool:
    """Whether a device should bring new keys."""
    return key.status != KeyStatus.ACTIVE or key.created_at + INTERVAL_DAYS * DAY_SECONDS <= moment


def _stands(status: KeyStatus) -> sa.ColumnElement[bool]:
    over = sa.and_(
        col(DeviceKey.status) == KeyStatus.ROTATING,
        sa.or_(col(DeviceKey.retires_at) <= now(), col(DeviceKey.expires_at) <= now()),
    )
    if status is KeyStatus.ROTATING:
        return sa.and_(col(DeviceKey.status) == status, sa.not_(over))
    if status is KeyStatus.RETIRED:
        return sa.or_(col(DeviceKey.status) == status, over)
    return col(DeviceKey.status) == status
