"""A round of secure aggregation whose messages the tests pass on, and may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest

from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation import (
    Agreement,
    Coordinator,
    Participant,
    Roster,
    Survivors,
    Total,
)

LENGTH = 7


@cache
def key_of(number: int) -> SigningKey:
    return SigningKey.generate()


def ids(count: int) -> list[str]:
    return [f"dev_{number:03}" for number in range(count)]


def words_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 2**32, LENGTH, dtype=np.uint32)


@dataclass
class Round:
    """A server and its devices; what they say to each other is passed on by the test."""

    count: int
    keys: dict[str, VerifyingKey] = field(init=False)
    server: Coordinator = field(init=False)
    devices: dict[str, Participant] = field(init=False)

    def __post_init__(self) -> None:
        names = ids(self.count)
        self.keys = {name: key_of(number).public for number, name in enumerate(names)}
        self.server = Coordinator("round_1", LENGTH, self.keys)
        self.devices = {
            name: Participant("round_1", name, key_of(number), self.keys) for number, name in enumerate(names)
        }

    def advertised(self) -> Roster:
        for device in self.devices.values():
            self.server.advertise(device.advertise())
        return self.server.close_advertising()

    def shared(self, without: frozenset[str] = frozenset()) -> Roster:
        roster = self.advertised()
        for name, device in self.devices.items():
            if name not in without:
                self.server.take_parcels(name, device.share(roster, self.server.neighbours_of(name)))
        self.server.close_sharing()
        return roster

    def reported(
        self, without: frozenset[str] = frozenset(), sharing: frozenset[str] = frozenset()
    ) -> dict[str, str]:
        self.shared(sharing)
        for name, device in self.devices.items():
            if name not in without | sharing:
                self.server.take_report(device.report(self.server.parcels_for(name)))
        return self.server.close_reporting()

    def masked(
        self,
        without: frozenset[str] = frozenset(),
        reporting: frozenset[str] = frozenset(),
        sharing: frozenset[str] = frozenset(),
    ) -> Survivors:
        self.reported(reporting, sharing)
        for number, (name, device) in enumerate(self.devices.items()):
            if name not in without | reporting | sharing:
                self.server.take_masked(name, device.mask(words_of(number), self.server.without_for(name)))
        return self.server.close_masking()

    def agreed(
        self, without: frozenset[str] = frozenset(), masking: frozenset[str] = frozenset()
    ) -> Agreement:
        survivors = self.masked(masking)
        for name, device in self.devices.items():
            if name not in without | masking:
                self.server.take_signature(name, device.agree(survivors))
        return self.server.close_agreeing()


def expected(total: Total) -> np.ndarray:
    """The sum of the vectors of those who are in it."""
    return sum((words_of(int(name[4:])) for name in total.device_ids), np.zeros(LENGTH, dtype=np.uint32))


def refused(call: Callable[[], object], reason: str) -> None:
    with pytest.raises(SecureAggregationRefused, match=reason):
        call()
