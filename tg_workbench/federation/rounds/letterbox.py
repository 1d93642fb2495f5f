"""The letterbox: where a device of a secure round leaves what it says, and finds what it needs next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.rounds.campaigns import ask_for_worker
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.rounds.hearing import Hearing
from tg_workbench.federation.rounds.phases import Phase
from tg_workbench.federation.rounds.rounds import Rounds
from tg_workbench.federation.rounds.tables import Campaign
from tg_workbench.federation.rounds.turns import advance


@dataclass(frozen=True, slots=True)
class Letter:
    """How far a round is, and what a device is told for the step that it is in."""

    phase: str
    reason: str | None
    step: str | None
    """None: the round does not train."""
    told: Mapping[str, Any] | None
    """None: there is nothing to be done for now."""


class Letterbox:
    """What one device and the exchange of its round have for each other."""

    def __init__(self, rounds: Rounds, device: Device, round_id: str) -> None:
        """Raises RoundNotFound, and SecureAggregationRefused for a round that masks nothing."""
        self.rounds = rounds
        self.device = device
        self.round, self.spec, _ = rounds.for_device(device, round_id)
        if not self.spec.secure_aggregation:
            raise SecureAggregationRefused("this round does not mask updates")

    def look(self) -> Letter:
        """What there is for the device. Raises SecureAggregationRefused when it is out."""
        round_ = self.round
        if round_.phase != Phase.TRAINING:
            return Letter(round_.phase, round_.reason, None, None)
        exchange = Exchange(self.rounds.session, round_)
        return Letter(round_.phase, None, exchange.step, exchange.mail_for(self.device.id))

    def take(self, step: str, said: Mapping[str, Any]) -> Letter:
        """Take what the device says in a step, and go on if it was the last to say so.

        The same again is the same. Raises SecureAggregationRefused when it is not taken.
        """
        rounds, session = self.rounds, self.rounds.session
        Hearing(Exchange(session, self.round)).say(self.device.id, step, said)
        if advance(session, self.round, self.spec, rounds.blobs):
            ask_for_worker(session, rounds.folder, session.get_one(Campaign, self.round.campaign_id))
        try:
            return self.look()
        except SecureAggregationRefused:
            # Its own word, being the last, may have had it left out. It is told so when it looks again: a
            # refusal now would undo the word, and with it the step that it has ended for all the others.
            return Letter(self.round.phase, None, Exchange(session, self.round).step, None)
