"""Enrolment: one token and the keys it comes with make a device, all of it or nothing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import QuotaExceeded
from tg_workbench.events import DeviceRegistered, Events, tenant_subject
from tg_workbench.federation.devices.certificate_office import CertificateOffice
from tg_workbench.federation.devices.device_keys import DeviceKeys
from tg_workbench.federation.devices.devices import told_of
from tg_workbench.federation.devices.enrollment_tokens import EnrollmentTokens
from tg_workbench.federation.devices.key_pairs import KeyPairs, Offer
from tg_workbench.federation.devices.tables import Device, DeviceKey
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage.database import now

UPDATE_INTERVAL = 300.0
"""Seconds between two heartbeats, unless somebody changes it."""


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device as it describes itself."""

    name: str
    kind: str
    capabilities: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that came in, and its keys; with the seeds, where the server made them."""

    device: Device
    key: DeviceKey
    pairs: KeyPairs


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms devices come in: how many an organisation may have, and whether they must bring keys."""

    most_devices: int
    must_bring_keys: bool


class Enrollment:
    """Lets devices in."""

    def __init__(self, session: Session, office: CertificateOffice, terms: Terms) -> None:
        self.session = session
        self.office = office
        self.terms = terms

    def register(self, secret: str, organization_id: str, new: NewDevice, offer: Offer) -> Enrolled:
        """A new device for a token, which is used up only if all goes well.

        A device that lost the answer may ask again: with the keys it was certified for, it gets the same one.
        Raises EnrollmentTokenExpired, QuotaExceeded, QuantumKeyInvalid, CertificateInvalid, InvalidField.
        """
        if (known := self._known(secret, organization_id, offer)) is not None:
            return known
        device_id = f"dev_{secrets.token_hex(16)}"
        token = EnrollmentTokens(self.session).take(secret, organization_id, device_id)
        self._check_quota(token.organization_id)
        pairs = offer.pairs(must_bring=self.terms.must_bring_keys)
        device = Device(
            id=device_id,
            organization_id=token.organization_id,
            name=new.name.strip(),
            kind=new.kind,
            capabilities=new.capabilities,
            config={},
            update_interval=UPDATE_INTERVAL,
            key_version="",
            certificate_expires_at=0.0,
            is_online=True,
            last_seen=now(),
            token_id=token.id,
        )
        self.session.add(device)
        self.session.flush()
        key = DeviceKeys(self.session).add(device, pairs, self.office)
        self._tell(device)
        return Enrolled(device, key, pairs)

    def _known(self, secret: str, organization_id: str, offer: Offer) -> Enrolled | None:
        """The device that this token and these very keys have made."""
        used_for = EnrollmentTokens(self.session).used_for(secret, organization_id)
        device = None if used_for is None else self.session.get(Device, used_for)
        if (
            device is None
            or offer.csr is None
            or device.revoked_at is not None
            or device.ended_at is not None
        ):
            return None
        key, pairs = DeviceKeys(self.session).newest(device.id), offer.pairs(must_bring=True)
        brought = (pairs.signing.raw, pairs.encryption)
        if key is None or (key.signing_key, key.encryption_key) != brought:
            return None
        return Enrolled(device, key, pairs)

    def _check_quota(self, organization_id: str) -> None:
        living = (col(Device.organization_id) == organization_id, col(Device.ended_at).is_(None))
        count = self.session.exec(select(sa.func.count()).select_from(Device).where(*living)).one()
        if count >= self.terms.most_devices:
            raise QuotaExceeded("devices of this organization", self.terms.most_devices)

    def _tell(self, device: Device) -> None:
        fact = DeviceRegistered(device.id, device.organization_id, device.name)
        Events(self.session).record(tenant_subject(device.organization_id), fact)
        Outbox(self.session).put(device.organization_id, WebhookEvent.DEVICE_REGISTERED, told_of(device))
