"""The server's own keys for devices: what they seal to, and what signs the server's receipts; every version.

The seeds lie in the database, sealed under a data key. A version is good for a time of grace after the next.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlmodel import Session, col, select

from tg_workbench.crypto import Keyring, open_sealed, seal
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.errors import SealBroken
from tg_workbench.federation.devices.device_keys import (
    DAY_SECONDS,
    GRACE_SECONDS,
    INTERVAL_DAYS,
    LIFETIME_DAYS,
    KeyStatus,
)
from tg_workbench.federation.devices.tables import ServerKey
from tg_workbench.federation.updates.bindings import SERVER_KEY_CONTEXT, endorsed
from tg_workbench.identity import LOCAL
from tg_workbench.security import DataKeys
from tg_workbench.storage.database import now

SEED_BYTES = 32
MOST_FOLLOWED = 200
"""How many versions a device is led through at a time: sixteen years of them."""


class ServerKeys:
    """The server's own keys. The caller holds a writing session wherever one may have to be made."""

    def __init__(self, session: Session, home: Path) -> None:
        self.session = session
        self.home = home

    def newest(self) -> ServerKey | None:
        """The newest version; None while no device has ever come."""
        return self.session.exec(select(ServerKey).order_by(col(ServerKey.number).desc()).limit(1)).first()

    def current(self) -> ServerKey:
        """The newest version, made now if there is none."""
        return self.newest() or self._make(1)

    def rotate(self) -> ServerKey:
        """A new version; the last one stays good for a time of grace, those before it do not."""
        last = self.current()
        for key in self.session.exec(select(ServerKey).where(ServerKey.status == KeyStatus.ROTATING)):
            key.status, key.retires_at = KeyStatus.RETIRED, now()
            self.session.add(key)
        last.status, last.retires_at = KeyStatus.ROTATING, now() + GRACE_SECONDS
        self.session.add(last)
        return self._make(last.number + 1, endorser=self.signing_key(last))

    def rotate_when_due(self) -> ServerKey | None:
        """A new version if the newest is as old as keys may get; None when there is nothing to do."""
        return self.rotate() if self.is_due() else None

    def is_due(self) -> bool:
        """Whether the newest version is as old as keys may get."""
        due = self.next_rotation()
        return due is not None and due <= now()

    def next_rotation(self) -> float | None:
        """When the next version is due; None while there is none."""
        newest = self.newest()
        return None if newest is None else newest.created_at + INTERVAL_DAYS * DAY_SECONDS

    def good(self) -> list[ServerKey]:
        """The versions that count now, the newest first."""
        newest_first = col(ServerKey.number).desc()
        found = self.session.exec(select(ServerKey).order_by(newest_first).limit(2))
        return [key for key in found if key.retires_at is None or key.retires_at > now()]

    def opening_key(self, key: ServerKey) -> OpeningKey:
        """The private half that opens what was sealed to a version. Raises SealBroken."""
        return OpeningKey.from_seed(self._seeds(key)[:SEED_BYTES])

    def signing_key(self, key: ServerKey) -> SigningKey:
        """The private half that signs for a version. Raises SealBroken."""
        return SigningKey.from_seed(self._seeds(key)[SEED_BYTES:])

    def after(self, version: str | None) -> list[ServerKey]:
        """The versions that came after one, the oldest first; all of them after one that is not known."""
        numbers = {key.version: key.number for key in self.session.exec(select(ServerKey))}
        known = numbers.get(version or "", 0)
        later = select(ServerKey).where(col(ServerKey.number) > known).order_by(col(ServerKey.number))
        return list(self.session.exec(later.limit(MOST_FOLLOWED)))

    def _make(self, number: int, endorser: SigningKey | None = None) -> ServerKey:
        opening, signing = OpeningKey.generate(), SigningKey.generate()
        data_key = DataKeys(self.session, Keyring.open(self.home)).current(LOCAL)
        key_id = f"skey_{secrets.token_hex(16)}"
        key = ServerKey(
            id=key_id,
            number=number,
            encryption_key=opening.public.raw,
            signing_key=signing.public.raw,
            sealed=seal(data_key.key, opening.seed + signing.seed, _context(key_id, number)),
            key_id=data_key.key_id,
            status=KeyStatus.ACTIVE,
            expires_at=now() + LIFETIME_DAYS * DAY_SECONDS,
        )
        if endorser is not None:
            key.endorsement = endorser.sign(endorsed(key.version, key.signing_key), SERVER_KEY_CONTEXT)
        self.session.add(key)
        self.session.flush()
        return key

    def _seeds(self, key: ServerKey) -> bytes:
        data_key = DataKeys(self.session, Keyring.open(self.home)).get(key.key_id)
        seeds = open_sealed(data_key.key, key.sealed, _context(key.id, key.number))
        if len(seeds) != 2 * SEED_BYTES:
            raise SealBroken
        return seeds


def _context(key_id: str, number: int) -> bytes:
    """A sealed pair cannot be passed off as another version's."""
    return f"server-key|{key_id}|{number}".encode()
