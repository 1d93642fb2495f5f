"""Who shares masks with whom: a ring in an order nobody chose, each device joined to those nearest to it.

Bell et al. (2020) show that as many neighbours as the logarithm of all devices are enough. Until there are
many devices everybody is everybody's neighbour, which is the graph of Bonawitz et al. (2017).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

EVERYBODY = 128
"""Up to so many devices all are neighbours: any third of them may vanish."""
DROP_OUT, CORRUPT = 0.1, 0.2
"""The shares of devices that may vanish, or tell the server what they know, and the round still holds."""
FAILING, LEAKING = 2.0**-20, 2.0**-40
"""How likely a round may then end without a sum, or with a secret that the server can put together."""


def threshold(holders: int) -> int:
    """How many of the holders of shares are needed: more than two thirds.

    Two such groups have more than a third of all in common; so as long as fewer lie, a server cannot get one
    group to call a device gone and another to call it present.
    """
    return 2 * holders // 3 + 1


@cache
def degree_for(devices: int) -> int:
    """How many neighbours each of so many devices needs: an even number, or all others."""
    for degree in range(2, devices - 1, 2) if devices > EVERYBODY else ():
        needed = threshold(degree + 1)
        fails = _tail(devices - 1, math.ceil(DROP_OUT * devices), degree, degree - needed + 1)
        leaks = _tail(devices - 1, math.ceil(CORRUPT * devices), degree, needed)
        if devices * fails <= FAILING and devices * leaks <= LEAKING:
            return degree
    return devices - 1


@dataclass(frozen=True)
class Graph:
    """The devices of a round in their ring."""

    ring: tuple[str, ...]
    degree: int

    @classmethod
    def of(cls, device_ids: Iterable[str], seed: bytes, degree: int | None = None) -> Graph:
        """The graph that everybody computes alike. `seed` is the digest of what all devices advertised."""
        ring = tuple(sorted(device_ids, key=lambda name: hashlib.sha256(seed + name.encode()).digest()))
        return cls(ring, degree_for(len(ring)) if degree is None else min(degree, len(ring) - 1))

    def neighbours(self, device_id: str) -> tuple[str, ...]:
        """Those with whom a device shares masks, in the order of their ids."""
        if self.degree >= len(self.ring) - 1:
            return tuple(sorted(name for name in self.ring if name != device_id))
        place = self._places[device_id]
        steps = [step for half in range(1, self.degree // 2 + 1) for step in (half, -half)]
        return tuple(sorted({self.ring[(place + step) % len(self.ring)] for step in steps}))

    def holders(self, device_id: str) -> tuple[str, ...]:
        """Those who hold shares of a device's secrets: its neighbours and itself, by their places."""
        return tuple(sorted((*self.neighbours(device_id), device_id)))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ring)}


def _tail(population: int, marked: int, drawn: int, least: int) -> float:
    """How likely at least so many of those drawn are marked (hypergeometric)."""
    most = min(drawn, marked)
    total = _log_choose(population, drawn)
    return sum(
        math.exp(_log_choose(marked, k) + _log_choose(population - marked, drawn - k) - total)
        for k in range(max(least, drawn - (population - marked)), most + 1)
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
