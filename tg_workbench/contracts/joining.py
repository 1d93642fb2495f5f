"""Joining a round and hearing of rounds: a device may be answered later, when there is more to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from sqlmodel import Session
from starlette.requests import Request

from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.contracts.route import PRINCIPAL
from tg_workbench.contracts.waiting import Waiting
from tg_workbench.errors import DeviceNotFound
from tg_workbench.execution import ring
from tg_workbench.federation.devices import DeviceChange, Devices, DeviceSignIn, ServerKeys, SignedDevice
from tg_workbench.federation.rounds import (
    Assignments,
    Campaign,
    Counts,
    Offer,
    Part,
    Participation,
    Phase,
    Round,
    Rounds,
    Signer,
)
from tg_workbench.federation.rounds.farewells import farewell_of, over_for
from tg_workbench.federation.rounds.turns import topic_of
from tg_workbench.identity import Principal

LOOK_SECONDS = 2.0
"""How long a lost bell can keep a device waiting."""


@dataclass(frozen=True, slots=True)
class Joining:
    """A round, a device's part in it, and what it is to do, once there is something to do."""

    round_: Round
    campaign: Campaign
    counts: Counts
    part: Participation
    assignment: dict[str, Any] | None

    @property
    def is_settled(self) -> bool:
        """Whether waiting changes nothing any more."""
        waits = self.round_.phase in (Phase.PREPARING, Phase.RECRUITING) and self.part.status == Part.JOINED
        return not waits


class JoinDesk:
    """Joins one device, for one request."""

    def __init__(self, premises: Premises, principal: Principal) -> None:
        self.premises = premises
        self.principal = principal

    async def join(self, round_id: str, wait: float) -> Joining:
        """The device's part, once the round trains or is over, or as it is after `wait` seconds.

        Raises RoundNotFound, DeviceUnfit, RoundNotOpen, PrivacyRefused.
        """
        with self.premises.database.write() as session:
            found = self._joined(session, round_id)
        ring(self.premises.folder, "api-*", found.campaign.id)  # others wait for this one, perhaps
        return await Waiting(self.premises, found.campaign.id, LOOK_SECONDS).settled(
            found,
            wait,
            look=lambda session: self._joined(session, round_id),
            is_settled=lambda seen: seen.is_settled,
        )

    def beat(self, device_id: str, change: DeviceChange | None) -> SignedDevice:
        """Take note of a sign of life, and of what the device says of itself. Raises DeviceNotFound."""
        with self.premises.database.write() as session:
            signed = self._device(session)
            if signed.device.id != device_id:
                raise DeviceNotFound
            devices = Devices(session)
            if change is not None:
                devices.change(signed.device, change)
            devices.seen(signed.device)
        return signed

    async def offers(self, wait: float) -> list[Offer]:
        """The rounds that the device may join or serve, once there are some, or none after `wait` seconds."""

        def look(session: Session) -> list[Offer]:
            device = self._device(session).device
            return Rounds(session, self.premises.folder, self.premises.blobs).open_to(device)

        with self.premises.database.read() as session:
            found = look(session)
        waiting = Waiting(self.premises, topic_of(self.principal.tenant_id), LOOK_SECONDS)
        return await waiting.settled(found, wait, look=look, is_settled=bool)

    def farewell(self, campaign_ids: list[str]) -> dict[str, Any] | None:
        """The signed word of which of these campaigns no round comes any more; None: of none."""
        if not campaign_ids:
            return None
        with self.premises.database.read() as session:
            device = self._device(session).device
            if not (over := over_for(session, device, campaign_ids)):
                return None
            return farewell_of(device, over, Signer.of(ServerKeys(session, self.premises.settings.home)))

    def _joined(self, session: Session, round_id: str) -> Joining:
        """Joining twice is joining once: so each later look is a look, and writes nothing."""
        signed = self._device(session)
        rounds = Rounds(session, self.premises.folder, self.premises.blobs)
        round_, part = rounds.join(signed.device, round_id)
        assignments = Assignments(session, self.premises.settings.home)
        return Joining(
            round_,
            rounds.campaigns([round_])[round_.campaign_id],
            rounds.counts([round_])[round_.id],
            part,
            assignments.of(signed, round_, part),
        )

    def _device(self, session: Session) -> SignedDevice:
        return DeviceSignIn(session).again(self.principal)


async def _desk(request: Request) -> JoinDesk:
    return JoinDesk(premises_of(request), request.scope[PRINCIPAL])


TheJoinDesk = Annotated[JoinDesk, Depends(_desk)]
