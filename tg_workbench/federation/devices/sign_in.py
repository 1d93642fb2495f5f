"""How a device shows who it is: once by a signature, and then by a token that is bound to its certificate.

Whatever it shows is looked up again at every request: a certificate that was revoked a moment ago, keys whose
time of grace is over or a certificate that has expired open nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import tokens
from tg_workbench.crypto.access_tokens import AccessToken
from tg_workbench.crypto.assertions import CONTEXT, WINDOW_SECONDS, assertion
from tg_workbench.crypto.signatures import VerifyingKey
from tg_workbench.errors import AssertionInvalid, ClockSkewed, DeviceRevoked, Unauthenticated
from tg_workbench.federation.devices.device_keys import DeviceKeys, is_good
from tg_workbench.federation.devices.tables import Device, DeviceKey, DeviceNonce
from tg_workbench.identity import DEVICE, Principal
from tg_workbench.storage.database import now

TOKEN_SECONDS = 3600
OF_DEVICES = frozenset({DEVICE})
"""What a device may do, and nobody else."""


@dataclass(frozen=True, slots=True)
class SignedDevice:
    """A device that has shown who it is, and the keys it has shown it with."""

    device: Device
    key: DeviceKey

    @property
    def principal(self) -> Principal:
        """The device, as doors know whoever is asking."""
        return Principal(self.device.id, self.device.organization_id, OF_DEVICES, key_id=self.key.thumbprint)

    @property
    def token(self) -> AccessToken:
        """What it may show from now on, for an hour."""
        return AccessToken(
            user_id=self.device.id,
            tenant_id=self.device.organization_id,
            scopes=OF_DEVICES,
            session_id=self.key.thumbprint,
            lifetime_seconds=TOKEN_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a device has signed to sign in."""

    device_id: str
    timestamp: int
    nonce: str
    signature: bytes


class DeviceSignIn:
    """Lets devices in that were enrolled before."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def by_assertion(self, shown: Assertion) -> SignedDevice:
        """The device that has signed this, now and for the first time.

        Raises ClockSkewed, AssertionInvalid, DeviceRevoked.
        """
        if abs(now() - shown.timestamp) > WINDOW_SECONDS:
            raise ClockSkewed(int(now()), WINDOW_SECONDS)
        device = self.session.get(Device, shown.device_id)
        key = None if device is None else self._signed_by(shown)
        if device is None or key is None:
            raise AssertionInvalid
        found = _checked(device, key)
        self._use_up(shown)
        return found

    def by_token(self, token: AccessToken) -> SignedDevice:
        """The device that a token stands for. Raises Unauthenticated, DeviceRevoked."""
        return self._standing(token.user_id, token.tenant_id, token.session_id)

    def again(self, principal: Principal) -> SignedDevice:
        """A device that the door has let in, as it is in this transaction. Raises as `by_token`."""
        return self._standing(principal.id, principal.tenant_id, principal.key_id or "")

    def _standing(self, device_id: str, organization_id: str, thumbprint: str) -> SignedDevice:
        query = select(Device, DeviceKey).join(DeviceKey, col(DeviceKey.device_id) == col(Device.id))
        mine = (col(Device.id) == device_id, col(Device.organization_id) == organization_id)
        found = self.session.exec(query.where(*mine, col(DeviceKey.thumbprint) == thumbprint)).first()
        if found is None or not tokens.same(found[1].thumbprint, thumbprint):
            raise Unauthenticated("this token is not a device's that is known here")
        return _checked(*found)

    def _signed_by(self, shown: Assertion) -> DeviceKey | None:
        """Which of a device's two newest keys has signed, good or not."""
        message = assertion(shown.device_id, shown.timestamp, shown.nonce)
        for key in DeviceKeys(self.session).versions(shown.device_id, 2):
            if VerifyingKey.from_bytes(key.signing_key).verifies(shown.signature, message, CONTEXT):
                return key
        return None

    def _use_up(self, shown: Assertion) -> None:
        """Remember a nonce for as long as its assertion could be shown again. Raises AssertionInvalid."""
        self.session.exec(sa.delete(DeviceNonce).where(col(DeviceNonce.expires_at) < now()))
        if self.session.get(DeviceNonce, (shown.device_id, shown.nonce)) is not None:
            raise AssertionInvalid
        expires_at = shown.timestamp + WINDOW_SECONDS + 1.0
        self.session.add(DeviceNonce(device_id=shown.device_id, nonce=shown.nonce, expires_at=expires_at))
        self.session.flush()


def _checked(device: Device, key: DeviceKey) -> SignedDevice:
    if device.revoked_at is not None or device.ended_at is not None or key.revoked_at is not None:
        raise DeviceRevoked
    if not is_good(key, now()):
        raise Unauthenticated("these keys are too old to be good: sign in with newer ones, or enroll anew")
    return SignedDevice(device, key)
