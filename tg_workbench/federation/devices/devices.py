"""Devices: found by those whose they are, changed, seen, missed, and sent away."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DeviceNotFound
from tg_workbench.events import (
    CertificateRevoked,
    DeviceCameOnline,
    DeviceDeregistered,
    DeviceFact,
    DeviceOffline,
    Events,
    tenant_subject,
)
from tg_workbench.federation.devices.device_keys import DeviceKeys
from tg_workbench.federation.devices.tables import Device
from tg_workbench.identity import Principal
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage.database import now

MISSED_INTERVALS = 2
"""For how many of its own intervals a device may be unseen before it is offline."""
MOST_AT_ONCE = 1000


class DeviceStatus(StrEnum):
    """Where a device stands."""

    ONLINE = "online"
    OFFLINE = "offline"
    TRAINING = "training"


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """Which devices are asked for."""

    status: DeviceStatus | None = None
    organization_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """What changes of a device; None and what is not named stays."""

    name: str | None = None
    capabilities: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    update_interval: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """How many devices there are, and how many of them are online."""

    total: int
    online: int


class Devices:
    """The devices of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, asking: Principal, device_id: str) -> Device:
        """The device. Raises DeviceNotFound, also when it is none of the asker's."""
        mine = (*self._readable(asking), col(Device.id) == device_id)
        found = self.session.exec(select(Device).where(*mine)).one_or_none()
        if found is None:
            raise DeviceNotFound
        return found

    def list_page(
        self, asking: Principal, query: DeviceQuery, *, limit: int = 20, offset: int = 0
    ) -> tuple[list[Device], int]:
        """The devices that the asker sees, newest first, and how many there are.

        Raises OrganizationNotFound.
        """
        which: list[sa.ColumnElement[bool]] = [*self._readable(asking)]
        if query.organization_id is not None:
            which = [*which, col(Device.organization_id) == asking.meant(query.organization_id)]
        if query.status is not None:
            which = [*which, *_standing(query.status)]
        total = self.session.exec(select(sa.func.count()).select_from(Device).where(*which)).one()
        newest_first = (col(Device.created_at).desc(), col(Device.id))
        found = select(Device).where(*which).order_by(*newest_first).limit(limit).offset(offset)
        return list(self.session.exec(found)), total

    def counts(self, organization_id: str | None = None) -> DeviceCounts:
        """How many an organisation has, or all of them together."""
        which: list[sa.ColumnElement[bool]] = [col(Device.ended_at).is_(None)]
        if organization_id is not None:
            which.append(col(Device.organization_id) == organization_id)
        online = sa.func.coalesce(sa.func.sum(sa.cast(col(Device.is_online), sa.Integer)), 0)
        total, there = self.session.execute(sa.select(sa.func.count(), online).where(*which)).one()
        return DeviceCounts(total, there)

    def change(self, device: Device, change: DeviceChange) -> Device:
        """Change what is given."""
        device.name = device.name if change.name is None else change.name.strip()
        device.capabilities = {**device.capabilities, **change.capabilities}
        device.config = {**device.config, **change.config}
        if change.update_interval is not None:
            device.update_interval = change.update_interval
        self.session.add(device)
        self.session.flush()
        return device

    def seen(self, device: Device) -> None:
        """A device gives a sign of life."""
        if not device.is_online:
            self._say(device, DeviceCameOnline(device.id))
        device.is_online, device.last_seen = True, now()
        self.session.add(device)
        self.session.flush()

    def is_missing(self, since: float) -> bool:
        """Whether there is anybody to miss."""
        return self.session.exec(select(Device.id).where(*_late(since)).limit(1)).first() is not None

    def miss(self, since: float) -> int:
        """Take note of devices that were not seen for too long, each once; how many those were.

        Nobody is missed for the time before `since`, when nobody was here to see them.
        """
        missed = list(self.session.exec(select(Device).where(*_late(since)).limit(MOST_AT_ONCE)))
        for device in missed:
            device.is_online = False
            self.session.add(device)
            self._say(device, DeviceOffline(device.id, device.last_seen or 0.0))
            told = {
                "device_id": device.id,
                "organization_id": device.organization_id,
                "device_name": device.name,
            }
            Outbox(self.session).put(device.organization_id, WebhookEvent.DEVICE_OFFLINE, told)
        self.session.flush()
        return len(missed)

    def revoke(self, device: Device, reason: str) -> Device:
        """Let nothing that a device shows be good any more: at once, and for good."""
        if device.revoked_at is None:
            DeviceKeys(self.session).revoke(device)
            device.revoked_at = now()
            self._leave(device)
            self._say(device, CertificateRevoked(device.id, reason))
        return device

    def deregister(self, device: Device) -> None:
        """Send a device away. Its row stays, because rounds remember it; nobody sees it any more."""
        DeviceKeys(self.session).revoke(device)
        device.ended_at = now()
        self._leave(device)
        self._say(device, DeviceDeregistered(device.id))

    def _leave(self, device: Device) -> None:
        device.is_online = False
        device.current_round_id = device.current_round = None
        self.session.add(device)
        self.session.flush()

    def _say(self, device: Device, fact: DeviceFact) -> None:
        Events(self.session).record(tenant_subject(device.organization_id), fact)

    def _readable(self, asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
        """Those of the asker's organisation; the operator's are all of them."""
        living = (col(Device.ended_at).is_(None),)
        return living if asking.is_operator else (*living, col(Device.organization_id) == asking.tenant_id)


def told_of(device: Device) -> dict[str, str]:
    """What other systems hear of a device: its name is what its people gave it."""
    return {"device_id": device.id, "organization_id": device.organization_id, "device_name": device.name}


def device_status_of(device: Device) -> DeviceStatus:
    """Where a device stands now."""
    if not device.is_online:
        return DeviceStatus.OFFLINE
    return DeviceStatus.ONLINE if device.current_round_id is None else DeviceStatus.TRAINING


def _late(since: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Unseen for too long, by now and of the time since then."""
    moment, patience = now(), MISSED_INTERVALS * col(Device.update_interval)
    late = (col(Device.last_seen) + patience < moment, patience < moment - since)
    return (col(Device.is_online).is_(True), *late)


def _standing(status: DeviceStatus) -> tuple[sa.ColumnElement[bool], ...]:
    online, in_round = col(Device.is_online).is_(True), col(Device.current_round_id).is_not(None)
    match status:
        case DeviceStatus.OFFLINE:
            return (col(Device.is_online).is_(False),)
        case DeviceStatus.ONLINE:
            return (online, sa.not_(in_round))
        case DeviceStatus.TRAINING:
            return (online, in_round)
