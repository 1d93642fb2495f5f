"""Releases: a round whose updates are about to be made into a model, and what paying for it gives."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.randomness import ReplayableRandom
from tg_workbench.privacy.trees import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One round whose updates are about to be made into a model."""

    round_id: str
    campaign_id: str
    tenant_id: str
    actor: str
    number: int
    """Of the round, in its campaign."""
    base: str
    """The digest of the model that the updates are deltas to."""
    contributions: tuple[tuple[str, str], ...]
    """Every device whose update is added up, and the digest of what it handed in."""
    noise_multiplier: float
    clip_norm: float
    quorum: int
    """The public number to divide by, settled before anybody came; unused where the server drew."""
    target_epsilon: float | None = None
    """What the campaign's own ε must not pass."""

    def __post_init__(self) -> None:
        if len({device_id for device_id, _ in self.contributions}) < len(self.contributions):
            raise InvalidRequest("a device has one update in a round")
        if not 0.0 < self.noise_multiplier < math.inf or not 0.0 < self.clip_norm < math.inf:
            raise InvalidRequest("a release needs a noise_multiplier and a clip_norm above 0, both finite")
        if self.quorum < 1:
            raise InvalidRequest("the public number of devices is 1 or more")

    @property
    def devices(self) -> tuple[str, ...]:
        """Whose updates are added up, in the order they are added in."""
        return tuple(sorted(device_id for device_id, _ in self.contributions))

    def context(self, expected_devices: float) -> bytes:
        """What names all that the noise is added to, and how it is scaled."""
        said = [
            *(self.round_id, self.campaign_id, self.base, sorted(self.contributions)),
            *(self.noise_multiplier, self.clip_norm, expected_devices),
        ]
        return hashlib.sha256(json.dumps(said).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A release that was paid for: what it costs, and where its noise comes from."""

    epsilon: float
    """Of the campaign's model, with this round."""
    round_epsilon: float
    """By how much that rose."""
    fleet_epsilon: float
    delta: float
    accountant: str
    noise_multiplier: float
    sample_rate: float
    expected_devices: float
    """What the noisy sum is divided by."""
    attempt: int
    clip_norm: float
    devices: tuple[str, ...]
    """Whose updates are added up, in the order they are added in."""
    context: bytes
    seed: bytes = field(repr=False)

    def generator(self) -> ReplayableRandom:
        """The stream that this release's noise is drawn from, from its start."""
        return ReplayableRandom(self.seed, self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidTree:
    """A tree that was paid for as a whole, as far as it has grown."""

    epsilon: float
    """Of the campaign's model, this whole tree included."""
    round_epsilon: float
    """By how much this tree has raised it."""
    fleet_epsilon: float
    delta: float
    number: int
    expected_devices: float
    devices: tuple[str, ...]
    """Whose updates are added up, in the order they are added in."""
    context: bytes
    tree: Tree
    """For `privacy.tree_noise.grow`, with this `context` and these `expected_devices`."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was ever spent on a fleet. `plain_rounds` were made without noise: ε does not speak of those."""

    epsilon: float
    delta: float
    cap: float | None
    plain_rounds: int
