"""A device in one round of secure aggregation: each step once, in order, and any doubt ends the round for it.

It tells nobody anything before more than two thirds of the round have signed the same list of survivors; then
it tells of each neighbour one secret, and of none both: of those on the list what takes off their own mask,
of the others what takes off their pairs. Of those whose parcels do not open, and of all that are left out
with them before anybody masks, it tells nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import QuantumKeyInvalid, SealBroken, SecureAggregationRefused, TooFewSurvivors
from tg_workbench.federation.updates.secure_aggregation.graph import degree_for, threshold
from tg_workbench.federation.updates.secure_aggregation.messages import (
    AGREEING,
    Advertisement,
    Agreement,
    Parcel,
    Report,
    Roster,
    Survivors,
    Unmasking,
    only_once,
)
from tg_workbench.federation.updates.secure_aggregation.pairs import (
    Pairs,
    channel_info,
    commitment,
    mark_of,
    own_mask,
)
from tg_workbench.federation.updates.secure_aggregation.shares import SECRET_BYTES, SHARE_BYTES, split

if TYPE_CHECKING:
    from tg_workbench.federation.updates.secure_aggregation.masks import Mask, Words

OVER = 9
"""No step comes after it."""
LEAST_DEVICES = 3
"""Of a sum of two, each of the two knows the other's part."""
Shares = tuple[bytes, bytes]
"""A share of the seed of a device's own mask, and one of the seed of its pairs."""


class Participant:
    """One device's side of a round, with secrets that are of this round alone."""

    def __init__(
        self,
        round_id: str,
        device_id: str,
        signing_key: SigningKey,
        keys: Mapping[str, VerifyingKey],
        *,
        least: int = LEAST_DEVICES,
    ) -> None:
        """`keys` are those of the devices of the round, by their certificates; `least` is how many."""
        self.round_id, self.device_id = round_id, device_id
        self._signing_key, self._keys, self._least = signing_key, keys, max(least, LEAST_DEVICES)
        self._own_seed = secrets.token_bytes(SECRET_BYTES)
        self._pairs = Pairs(secrets.token_bytes(SECRET_BYTES), round_id, device_id)
        self._channel = OpeningKey.generate()
        self._done = 0
        self._held: dict[str, Shares] = {}
        self._masks: dict[str, Mask] = {}
        self._broken: set[str] = set()
        self._survivors: Survivors | None = None

    def advertise(self) -> Advertisement:
        """Step 1: its keys of this round, signed."""
        with self._step(1):
            raw = (self._channel.public.raw, self._pairs.key.public.raw, commitment(self._own_seed))
            self._advertised = Advertisement(self.round_id, self.device_id, *raw).signed(self._signing_key)
            return self._advertised

    def share(self, roster: Roster, neighbours: Iterable[Advertisement]) -> list[Parcel]:
        """Step 2: shares of its secrets, one parcel for each neighbour, by what those advertised."""
        with self._step(2):
            self._check(roster)
            self._roster, self._neighbours = roster, roster.graph.neighbours(self.device_id)
            known = {each.device_id: each for each in neighbours}
            if sorted(known) != list(self._neighbours):
                raise SecureAggregationRefused("these are not the neighbours that the roster gives")
            for each in known.values():
                self._check_neighbour(each)
            holders = roster.graph.holders(self.device_id)
            needed = threshold(len(holders))
            own, pairs = (split(seed, len(holders), needed) for seed in (self._own_seed, self._pairs.seed))
            mine = dict(zip(holders, zip(own, pairs, strict=True), strict=True))
            self._held[self.device_id] = mine.pop(self.device_id)
            try:
                return [self._parcel(known[name], shares) for name, shares in mine.items()]
            except QuantumKeyInvalid as failure:
                raise SecureAggregationRefused("a neighbour's key is none") from failure

    def report(self, parcels: Iterable[Parcel]) -> Report:
        """Step 3: whose parcels it cannot open. `parcels` are those of its neighbours."""
        with self._step(3):
            for parcel in parcels:
                other, known = parcel.sender, self._held.keys() | self._broken
                if parcel.recipient != self.device_id or other not in self._neighbours or other in known:
                    raise SecureAggregationRefused("a parcel is not from a neighbour, or came twice")
                try:
                    shares, mask = self._opened(parcel), self._pairs.mask_with(other, parcel.pair)
                except SealBroken:
                    self._broken.add(other)
                else:
                    self._held[other], self._masks[other] = shares, mask
            return Report(self.device_id, tuple(sorted(self._broken)))

    def mask(self, words: Words, without: Iterable[str] = ()) -> Words:
        """Step 4: its vector under all its masks; `without` are the neighbours that are left out.

        What it holds of those is forgotten: nobody needs it.
        """
        with self._step(4):
            if str(words.dtype) != "uint32":
                raise ValueError("a vector is masked as words of 32 bits")
            gone = set(without)
            if not gone <= set(self._neighbours):
                raise SecureAggregationRefused("somebody is left out that was never a neighbour")
            if not self._broken <= gone:
                raise SecureAggregationRefused("a neighbour should stay whose parcel does not open")
            for other in gone:
                self._held.pop(other, None)
                self._masks.pop(other, None)
            needed = threshold(len(self._neighbours) + 1)
            if len(self._held) < needed:
                raise TooFewSurvivors(present=len(self._held), needed=needed)
            masked = words.copy()
            for other, mask in self._masks.items():
                (mask.add_to if self._pairs.adds(other) else mask.take_from)(masked)
            self._masks.clear()
            own_mask(self._own_seed, self.round_id).add_to(masked)
            return masked

    def agree(self, survivors: Survivors) -> bytes:
        """Step 5: its signature of who is in. It signs one list and never another."""
        with self._step(5):
            listed = survivors.device_ids
            if (survivors.round_id, survivors.roster) != (self.round_id, self._roster.digest):
                raise SecureAggregationRefused("these are the survivors of another round")
            if not only_once(listed) or not set(listed) <= set(self._roster.digests):
                raise SecureAggregationRefused(
                    "a survivor is listed twice, out of order, or was never in the round"
                )
            if self.device_id not in listed:
                raise SecureAggregationRefused("the server says that this device has dropped out")
            if any(name in listed and name not in self._held for name in self._neighbours):
                raise SecureAggregationRefused(
                    "a neighbour should have stayed that has never sent its parcel"
                )
            if len(listed) < self._roster.needed:
                raise TooFewSurvivors(present=len(listed), needed=self._roster.needed)
            self._survivors = survivors
            return self._signing_key.sign(survivors.content, AGREEING)

    def unmask(self, agreement: Agreement) -> Unmasking:
        """Step 6: one share for each neighbour, by what was agreed upon."""
        with self._step(6):
            if agreement.survivors != self._survivors:
                raise SecureAggregationRefused("others were told of other survivors than this device")
            signers = agreement.signers({**self._keys, self.device_id: self._signing_key.public})
            if len(signers) < self._roster.needed:
                raise TooFewSurvivors(present=len(signers), needed=self._roster.needed)
            stayed = set(agreement.survivors.device_ids)
            own = {name: shares[0] for name, shares in self._held.items() if name in stayed}
            pairs = {name: shares[1] for name, shares in self._held.items() if name not in stayed}
            self._held.clear()
            return Unmasking(self.device_id, own, pairs)

    @contextmanager
    def _step(self, number: int) -> Iterator[None]:
        """Each step is begun once: whoever fails in one, or is asked for one again, does no other."""
        in_order, self._done = self._done == number - 1, OVER
        if not in_order:
            raise SecureAggregationRefused("a step was asked for twice, or out of order")
        yield
        self._done = number

    def _check(self, roster: Roster) -> None:
        mine = roster.digests.get(self.device_id)
        if roster.round_id != self.round_id or mine != self._advertised.digest:
            raise SecureAggregationRefused(
                "the roster is not of this round, or not with what this device said"
            )
        if len(roster.digests) < self._least:
            raise TooFewSurvivors(present=len(roster.digests), needed=self._least)
        if roster.degree < min(degree_for(len(roster.digests)), len(roster.digests) - 1):
            raise SecureAggregationRefused("the roster gives a device too few neighbours")

    def _check_neighbour(self, neighbour: Advertisement) -> None:
        key = self._keys.get(neighbour.device_id)
        said = neighbour.round_id == self.round_id and key is not None and neighbour.is_signed_by(key)
        if not said or neighbour.digest != self._roster.digests[neighbour.device_id]:
            raise SecureAggregationRefused("a neighbour did not say what the roster says it did")

    def _parcel(self, neighbour: Advertisement, shares: Shares) -> Parcel:
        other = neighbour.device_id
        info = channel_info(self._roster.digest, self.device_id, other)
        sealed = SealingKey.from_bytes(neighbour.channel_key).seal(b"".join(shares), info)
        mask_key = SealingKey.from_bytes(neighbour.mask_key)
        parcel = Parcel(self.device_id, other, sealed, self._pairs.sealed_for(other, mask_key))
        return replace(parcel, marks=b"".join(mark_of(parcel, share) for share in shares))

    def _opened(self, parcel: Parcel) -> Shares:
        """The two shares in a parcel. Raises SealBroken, also for what has not the marks it says."""
        info = channel_info(self._roster.digest, parcel.sender, self.device_id)
        shares = self._channel.open(parcel.shares, info)
        own, pairs = shares[:SHARE_BYTES], shares[SHARE_BYTES:]
        if len(pairs) != SHARE_BYTES or parcel.marks != mark_of(parcel, own) + mark_of(parcel, pairs):
            raise SealBroken
        return own, pairs
