"""What a device's two seeds of a round give: the secrets it has with each neighbour, and its own mask.

Of two neighbours each draws half of their secret, from its seed, and seals it for the other. Whoever has a
device's seed of pairs thus has all its pairs: the halves it drew, and those that were sealed for the key
which the same seed gives.

**Why** both: a seal does not say who made it, so what a device is sent may come from the server that carries
it. The half that the device has drawn itself is still known to its neighbour alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.federation.updates.secure_aggregation.masks import Mask, derived
from tg_workbench.federation.updates.secure_aggregation.messages import Parcel, Unmasking, bound

VERSION = "tg/secagg/v2"
MARK_BYTES = 32


def own_mask(seed: bytes, round_id: str) -> Mask:
    """The mask that is a device's alone."""
    return Mask(seed, bound(VERSION, "own", round_id))


def commitment(seed: bytes) -> bytes:
    """What a device says of the seed of its own mask before anybody may know it."""
    return hashlib.sha256(bound(VERSION, "commitment", seed)).digest()


def channel_info(roster: bytes, sender: str, recipient: str) -> bytes:
    """What shares are sealed for: one roster, one sender, one recipient."""
    return bound(VERSION, "shares", roster, sender, recipient)


def mark_of(parcel: Parcel, share: bytes) -> bytes:
    """The digest of a share that is in a parcel."""
    return hashlib.sha256(bound(VERSION, "share", parcel.sender, parcel.recipient, share)).digest()


def are_sealed_ones(told: Unmasking, parcels: Iterable[Parcel]) -> bool:
    """Whether the shares that a device tells are those in the parcels for it; its own of itself has none."""
    known = {parcel.sender: parcel for parcel in parcels}
    kinds = ((told.own, slice(0, MARK_BYTES)), (told.pairs, slice(MARK_BYTES, 2 * MARK_BYTES)))
    return all(
        name in known and mark_of(known[name], share) == known[name].marks[of_kind]
        for shares, of_kind in kinds
        for name, share in shares.items()
        if name != told.device_id
    )


@dataclass(frozen=True)
class Pairs:
    """All that a device has with its neighbours in one round."""

    seed: bytes = field(repr=False)
    round_id: str
    device_id: str

    @cached_property
    def key(self) -> OpeningKey:
        """What its neighbours seal their halves for."""
        return OpeningKey.from_seed(derived(self.seed, bound(VERSION, "mask key", self.round_id)))

    def sealed_for(self, other: str, key: SealingKey) -> bytes:
        """Its half of the secret with a neighbour, for that neighbour's eyes."""
        return key.seal(self._drawn(other), self._info(self.device_id, other))

    def mask_with(self, other: str, sealed: bytes) -> Mask:
        """The mask of the two; `sealed` is the neighbour's half. Raises SealBroken."""
        halves = {
            self.device_id: self._drawn(other),
            other: self.key.open(sealed, self._info(other, self.device_id)),
        }
        first, second = sorted(halves)
        return Mask(bound(halves[first], halves[second]), self._info(first, second))

    def adds(self, other: str) -> bool:
        """Whether it is this one of the two that adds their mask; the other takes it off."""
        return self.device_id < other

    def _drawn(self, other: str) -> bytes:
        return derived(self.seed, bound(VERSION, "draw", self._info(self.device_id, other)))

    def _info(self, one: str, other: str) -> bytes:
        return bound(VERSION, "pair", self.round_id, one, other)
