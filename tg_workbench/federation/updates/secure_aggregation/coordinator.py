"""The server in one round of secure aggregation: it carries parcels it cannot read, and ends up with the sum.

Each phase takes what devices send until it is closed, which gives what they are told next. It keeps no clock:
whoever drives it closes a phase when its time is over. From the same messages it comes to the same sum again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tg_workbench.crypto.signatures import VerifyingKey
from tg_workbench.errors import SealBroken, SecureAggregationRefused, SharesUnfit, TooFewSurvivors
from tg_workbench.federation.updates.secure_aggregation.complaints import left_out
from tg_workbench.federation.updates.secure_aggregation.graph import Graph, threshold
from tg_workbench.federation.updates.secure_aggregation.messages import (
    AGREEING,
    Advertisement,
    Agreement,
    Parcel,
    Report,
    Roster,
    Survivors,
    Unmasking,
)
from tg_workbench.federation.updates.secure_aggregation.pairs import (
    Pairs,
    are_sealed_ones,
    commitment,
    own_mask,
)
from tg_workbench.federation.updates.secure_aggregation.participant import LEAST_DEVICES
from tg_workbench.federation.updates.secure_aggregation.shares import join

if TYPE_CHECKING:
    from tg_workbench.federation.updates.secure_aggregation.masks import Words

PHASES = ("advertising", "sharing", "reporting", "masking", "agreeing", "unmasking", "done")


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of the words of all who stayed, modulo 2^32."""

    words: Words
    device_ids: tuple[str, ...]


class Coordinator:
    """The server's side of a round."""

    def __init__(
        self, round_id: str, length: int, keys: Mapping[str, VerifyingKey], *, least: int = LEAST_DEVICES
    ) -> None:
        """`length` is that of a vector; `keys` are those of the devices that may take part."""
        self.round_id, self.length = round_id, length
        self._keys, self._least = keys, max(least, LEAST_DEVICES)
        self._phase = 0
        self._advertised: dict[str, Advertisement] = {}
        self._parcels: dict[str, dict[str, Parcel]] = {}
        self._broken: dict[str, tuple[str, ...]] = {}
        self._members: set[str] = set()
        self._masked: list[str] = []
        self._signatures: dict[str, bytes] = {}
        self._unmaskings: dict[str, Unmasking] = {}
        self._total: Words | None = None

    @property
    def phase(self) -> str:
        """What it takes now."""
        return PHASES[self._phase]

    # ------------------------------------------------------------------------- what devices send
    def advertise(self, said: Advertisement) -> None:
        """Take a device's keys."""
        self._expect("advertising", said.device_id, self._keys, self._advertised)
        if said.round_id != self.round_id or not said.is_signed_by(self._keys[said.device_id]):
            raise SecureAggregationRefused(
                "an advertisement is not of this round, or not signed by its device"
            )
        self._advertised[said.device_id] = said

    def take_parcels(self, device_id: str, parcels: Iterable[Parcel]) -> None:
        """Take what a device has for its neighbours."""
        self._expect("sharing", device_id, self._advertised, self._parcels)
        listed = list(parcels)
        own = {parcel.recipient: parcel for parcel in listed if parcel.sender == device_id}
        if len(listed) != len(own) or sorted(own) != list(self._graph.neighbours(device_id)):
            raise SecureAggregationRefused("there is not one parcel for each neighbour")
        self._parcels[device_id] = own

    def take_report(self, report: Report) -> None:
        """Take what a device says of its neighbours' parcels."""
        self._expect("reporting", report.device_id, self._parcels, self._broken)
        if not set(report.broken) <= set(self._graph.neighbours(report.device_id)):
            raise SecureAggregationRefused("a device complains of one that is no neighbour of it")
        self._broken[report.device_id] = report.broken

    def take_masked(self, device_id: str, words: Words) -> None:
        """Add a device's masked vector to the sum. It is not kept."""
        import numpy as np

        self._expect("masking", device_id, self._members, self._masked)
        if words.shape != (self.length,) or words.dtype != np.uint32:
            raise SecureAggregationRefused(f"a masked vector has {self.length} words of 32 bits")
        if self._total is None:
            self._total = np.zeros(self.length, dtype=np.uint32)
        np.add(self._total, words, out=self._total)
        self._masked.append(device_id)

    def take_signature(self, device_id: str, signature: bytes) -> None:
        """Take a device's signature of the survivors."""
        self._expect("agreeing", device_id, self._masked, self._signatures)
        if not self._keys[device_id].verifies(signature, self._survivors.content, AGREEING):
            raise SecureAggregationRefused("a device did not sign these survivors")
        self._signatures[device_id] = signature

    def take_unmasking(self, shares: Unmasking) -> None:
        """Take a device's shares."""
        self._expect("unmasking", shares.device_id, self._signatures, self._unmaskings)
        told = {*shares.own, *shares.pairs}
        if not told <= set(self._graph.holders(shares.device_id)) or not set(shares.own) <= set(self._masked):
            raise SecureAggregationRefused("a device has sent shares that nobody asked for")
        if set(shares.pairs) & set(self._masked):
            raise SecureAggregationRefused("a device has sent both shares of another, or the wrong one")
        if not are_sealed_ones(shares, self.parcels_for(shares.device_id)):
            raise SecureAggregationRefused("a device has sent a share that is not the one it was given")
        self._unmaskings[shares.device_id] = shares

    # ------------------------------------------------------------------------- what devices are told
    def close_advertising(self) -> Roster:
        """Who is in, for everybody."""
        self._close("advertising", len(self._advertised), self._least)
        self._roster = Roster.of(self.round_id, self._advertised.values())
        self._graph: Graph = self._roster.graph
        return self._roster

    def neighbours_of(self, device_id: str) -> list[Advertisement]:
        """What a device's neighbours have advertised, for that device."""
        return [self._advertised[name] for name in self._graph.neighbours(device_id)]

    def close_sharing(self) -> None:
        """From now on, those who have sent no parcels are out."""
        self._close("sharing", len(self._parcels), self._roster.needed)

    def close_reporting(self) -> dict[str, str]:
        """Who is left out, and why; those who have not reported are out too."""
        out = left_out(self._graph, self._broken)
        self._members = set(self._broken) - set(out)
        self._close("reporting", len(self._members), self._roster.needed)
        return out

    def without_for(self, device_id: str) -> list[str]:
        """The neighbours that a device must not mask with."""
        return [name for name in self._graph.neighbours(device_id) if name not in self._members]

    def parcels_for(self, device_id: str) -> list[Parcel]:
        """What a device's neighbours have for it."""
        senders = (name for name in self._graph.neighbours(device_id) if name in self._parcels)
        return [self._parcels[name][device_id] for name in senders]

    def close_masking(self) -> Survivors:
        """Whose vectors are in the sum, for those to sign."""
        self._close("masking", len(self._masked), self._roster.needed)
        self._survivors = Survivors(self.round_id, self._roster.digest, tuple(sorted(self._masked)))
        return self._survivors

    def close_agreeing(self) -> Agreement:
        """The survivors with their signatures, for those who have signed."""
        self._close("agreeing", len(self._signatures), self._roster.needed)
        return Agreement(self._survivors, dict(sorted(self._signatures.items())))

    def finish(self) -> Total:
        """The sum. Raises TooFewSurvivors when some mask can no longer be taken off; more shares may help."""
        self._expect_phase("unmasking")
        stayed, total = sorted(self._masked), self._total
        own = [own_mask(self._own_seed(name), self.round_id) for name in stayed]
        dropped = [self._pairs_of(name) for name in sorted(self._members - set(stayed))]
        if total is None:
            raise SecureAggregationRefused("there is nothing to sum")
        self._phase += 1
        for mask in own:
            mask.take_from(total)
        for pairs in dropped:
            for other in self._stayed_beside(pairs.device_id):
                self._take_off(pairs, other, total)
        return Total(total, tuple(stayed))

    # ------------------------------------------------------------------------- taking masks off
    def _own_seed(self, device_id: str) -> bytes:
        expected = self._advertised[device_id].commitment
        shares = {by: each.own[device_id] for by, each in self._unmaskings.items() if device_id in each.own}
        return self._joined(device_id, shares, lambda seed: commitment(seed) == expected)

    def _pairs_of(self, device_id: str) -> Pairs:
        expected = self._advertised[device_id].mask_key
        shares = {
            by: each.pairs[device_id] for by, each in self._unmaskings.items() if device_id in each.pairs
        }

        def right(seed: bytes) -> bool:
            return Pairs(seed, self.round_id, device_id).key.public.raw == expected

        return Pairs(self._joined(device_id, shares, right), self.round_id, device_id)

    def _stayed_beside(self, device_id: str) -> list[str]:
        return [name for name in self._graph.neighbours(device_id) if name in self._masked]

    def _take_off(self, pairs: Pairs, other: str, total: Words) -> None:
        """Undo what a device that stayed has done with the mask it shares with one that did not."""
        try:
            mask = pairs.mask_with(other, self._parcels[other][pairs.device_id].pair)
        except SealBroken as failure:
            raise SharesUnfit(other, "is no secret of two") from failure
        (mask.add_to if pairs.adds(other) else mask.take_from)(total)

    def _joined(self, device_id: str, shares: Mapping[str, bytes], right: Callable[[bytes], bool]) -> bytes:
        """The seed that shares give. If they do not fit together, the device that sealed them is to blame.

        The one that it has kept for itself has no mark, and is taken only where one is wanting.
        """
        holders = self._graph.holders(device_id)
        needed = threshold(len(holders))
        if len(shares) < needed:
            raise TooFewSurvivors(present=len(shares), needed=needed)
        chosen = sorted(shares, key=lambda name: (name == device_id, name))[:needed]
        try:
            seed = join({holders.index(name) + 1: shares[name] for name in chosen})
        except SecureAggregationRefused:
            seed = b""
        if not seed or not right(seed):
            raise SharesUnfit(device_id, "are no shares of its secret")
        return seed

    # ------------------------------------------------------------------------- phases
    def _expect(self, phase: str, device_id: str, among: Iterable[str], but: Iterable[str]) -> None:
        self._expect_phase(phase)
        if device_id not in among:
            raise SecureAggregationRefused("this device is not, or no longer, in the round")
        if device_id in but:
            raise SecureAggregationRefused("this device has sent its part already")

    def _close(self, phase: str, present: int, needed: int) -> None:
        self._expect_phase(phase)
        if present < needed:
            raise TooFewSurvivors(present=present, needed=needed)
        self._phase += 1

    def _expect_phase(self, phase: str) -> None:
        if self.phase != phase:
            raise SecureAggregationRefused(f"this is not the time: the round is {self.phase}")
