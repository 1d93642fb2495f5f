"""What devices and the server tell each other in a round of secure aggregation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.federation.updates.secure_aggregation.graph import Graph, degree_for, threshold

ADVERTISING, AGREEING = b"tg-secagg-v2-advertise", b"tg-secagg-v2-survivors"
"""What a signature is for."""


def bound(*parts: str | bytes) -> bytes:
    """Parts as one, so that no others give the same: each after its length."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A device's two keys of this round: what is sealed for its eyes, and what its masks are drawn from."""

    round_id: str
    device_id: str
    channel_key: bytes
    mask_key: bytes
    commitment: bytes
    """The digest of the seed of its own mask."""
    signature: bytes = b""

    def signed(self, key: SigningKey) -> Advertisement:
        """The same, with the device's word for it."""
        parts = (self.round_id, self.device_id, self.channel_key, self.mask_key, self.commitment)
        return Advertisement(*parts, key.sign(self._content, ADVERTISING))

    def is_signed_by(self, key: VerifyingKey) -> bool:
        """Whether it is the word of the device that has this key."""
        return key.verifies(self.signature, self._content, ADVERTISING)

    @property
    def digest(self) -> bytes:
        """What it is called by in the roster."""
        return hashlib.sha256(self._content).digest()

    @property
    def _content(self) -> bytes:
        return bound(self.round_id, self.device_id, self.channel_key, self.mask_key, self.commitment)


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is in a round, and what each has advertised, by its digest."""

    round_id: str
    digests: Mapping[str, bytes]
    degree: int
    """How many neighbours each has."""

    @classmethod
    def of(cls, round_id: str, advertised: Iterable[Advertisement]) -> Roster:
        """The roster of those who have advertised."""
        digests = {each.device_id: each.digest for each in advertised}
        return cls(round_id, dict(sorted(digests.items())), degree_for(len(digests)))

    @property
    def digest(self) -> bytes:
        """What all of it is called by: everybody who has the same digest means the same round."""
        entries = [part for entry in sorted(self.digests.items()) for part in entry]
        return hashlib.sha256(bound(self.round_id, str(self.degree), *entries)).digest()

    @property
    def graph(self) -> Graph:
        """Who is whose neighbour."""
        return Graph.of(self.digests, self.digest, self.degree)

    @property
    def needed(self) -> int:
        """How many devices must stay to the end."""
        return threshold(len(self.digests))


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a device has for one neighbour: sealed, so that the server who carries it cannot read it."""

    sender: str
    recipient: str
    shares: bytes = field(repr=False)
    """A share of the seed of its own mask, and one of the seed of its pairs."""
    pair: bytes = field(repr=False)
    """The sender's half of the secret of the two."""
    marks: bytes = b""
    """The digests of the two shares, by which they are known again: a share is as random as its digest."""


@dataclass(frozen=True, slots=True)
class Report:
    """Whose parcels a device could not open; mostly nobody's."""

    device_id: str
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survivors:
    """Those whose masked vectors came in time, as the server says."""

    round_id: str
    roster: bytes
    """The digest of the roster."""
    device_ids: tuple[str, ...]

    @property
    def content(self) -> bytes:
        """What devices sign."""
        return bound(self.round_id, self.roster, *self.device_ids)


@dataclass(frozen=True, slots=True)
class Agreement:
    """The survivors, and the signatures of devices that were told the same."""

    survivors: Survivors
    signatures: Mapping[str, bytes]

    def signers(self, keys: Mapping[str, VerifyingKey]) -> set[str]:
        """Those of the survivors who have really signed."""
        return {
            device_id
            for device_id, signature in self.signatures.items()
            if device_id in self.survivors.device_ids
            and device_id in keys
            and keys[device_id].verifies(signature, self.survivors.content, AGREEING)
        }


@dataclass(frozen=True, slots=True)
class Unmasking:
    """A device's shares: of the own masks of those who stayed, of the pairs of those who dropped out."""

    device_id: str
    own: Mapping[str, bytes] = field(repr=False)
    pairs: Mapping[str, bytes] = field(repr=False)


def only_once(device_ids: Iterable[str]) -> bool:
    """Whether ids are in order, and none is there twice."""
    listed = list(device_ids)
    return listed == sorted(set(listed))
