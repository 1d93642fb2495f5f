"""The office that certifies devices: the authority of this workbench, opened at its first use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.errors import AuthorityUnusable
from tg_workbench.federation.devices.tables import DeviceKey
from tg_workbench.storage.database import now

if TYPE_CHECKING:
    from tg_workbench.crypto.certificates import Authority, Certificate
    from tg_workbench.crypto.signatures import VerifyingKey

DAYS = 180
FOLDER = "device-authority"
"""Where the authority lies under `home/keys`."""
LIST_SECONDS = 3600.0
"""How long a signed list of revoked certificates is given out, unless one more is revoked."""


@dataclass(frozen=True, slots=True)
class _SignedList:
    pem: str
    of: tuple[int, float | None]
    """How many are on it, and when the last one was revoked."""
    until: float


class CertificateOffice:
    """Issues certificates to devices, and the list of those that were revoked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._list: _SignedList | None = None
        self._lock = Lock()

    def issue(self, key: VerifyingKey, device_id: str) -> Certificate:
        """A certificate for a key that was proven. Raises AuthorityUnusable."""
        return self._authority.issue(key, device_id, now(), days=DAYS)

    @property
    def chain_pem(self) -> str:
        """The issuing authority's certificate, then the root's."""
        return self._authority.chain_pem

    def is_well(self) -> bool | None:
        """Whether the authority can certify; None while no device has ever needed it."""
        if not (self.home / "keys" / FOLDER).exists():
            return None
        try:
            return bool(self.chain_pem)
        except AuthorityUnusable:
            return False

    def revocation_list(self, session: Session) -> str:
        """The signed list (PEM) of certificates that were revoked and have not expired."""
        revoked = (col(DeviceKey.revoked_at).is_not(None), col(DeviceKey.certificate_expires_at) > now())
        newest = sa.func.max(col(DeviceKey.revoked_at))
        count, last = session.execute(sa.select(sa.func.count(), newest).where(*revoked)).one()
        with self._lock:
            known = self._list
            if known is None or known.of != (count, last) or known.until < time.monotonic():
                rows = session.execute(
                    sa.select(col(DeviceKey.serial), col(DeviceKey.revoked_at)).where(*revoked)
                )
                entries = [(serial, moment) for serial, moment in rows]
                known = _SignedList(self._signed(entries), (count, last), time.monotonic() + LIST_SECONDS)
                self._list = known
        return known.pem

    def _signed(self, entries: list[tuple[str, float]]) -> str:
        from tg_workbench.crypto.certificates import Revocation

        return self._authority.crl([Revocation(serial, moment) for serial, moment in entries], now())

    @cached_property
    def _authority(self) -> Authority:
        from tg_workbench.crypto.certificates import Authority  # here: most workbenches have no devices

        return Authority.open(self.home)
