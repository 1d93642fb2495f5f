"""A round's keys: what updates are sealed to, and what its model is sealed with on its way to devices.

Both are drawn for one round and destroyed with it (forward secrecy); where devices may be late, once none is
waited for. Until then they lie in the database, under the tenant's data key and bound to their round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlmodel import Session

from tg_workbench.crypto import KEY_BYTES, Keyring, new_key, open_sealed, seal
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.errors import SealBroken
from tg_workbench.federation.rounds.tables import Round
from tg_workbench.security import DataKeys


@dataclass(frozen=True, slots=True)
class RoundKeys:
    """The private half of a round's X-Wing key, and the key of its model's download."""

    opening: OpeningKey = field(repr=False)
    model_key: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> RoundKeys:
        """Keys that nobody has seen."""
        return cls(OpeningKey.generate(), new_key())

    def store(self, session: Session, home: Path, round_: Round) -> None:
        """Keep them with their round. The caller holds a writing session."""
        key = DataKeys(session, Keyring.open(home)).current(round_.tenant_id)
        round_.public_key = self.opening.public.raw
        round_.sealed_keys = seal(key.key, self.model_key + self.opening.seed, _context(round_))
        round_.key_id = key.key_id

    @classmethod
    def of(cls, session: Session, home: Path, round_: Round) -> RoundKeys:
        """Those of a round that still waits for updates, or for its model. Raises SealBroken."""
        if round_.sealed_keys is None or round_.key_id is None:
            raise SealBroken
        key = DataKeys(session, Keyring.open(home)).get(round_.key_id)
        both = open_sealed(key.key, round_.sealed_keys, _context(round_))
        return cls(OpeningKey.from_seed(both[KEY_BYTES:]), both[:KEY_BYTES])


def destroy_keys(round_: Round) -> None:
    """Forget them: what was sealed to them stays sealed."""
    round_.sealed_keys = round_.key_id = None


def _context(round_: Round) -> bytes:
    return f"round-keys|{round_.id}|{round_.tenant_id}".encode()
