"""An exchange: what the devices of one secure round say to each other, carried by a workbench.

It goes in six steps, each with a deadline inside the training phase of its round; whoever is late for one is
out. All of it is in the database, so any process can go on where another was killed. Without numpy.

Pitfalls: whose vectors are in the sum is settled when masking ends, and devices sign it. From then on nobody
can be taken out of it: if one of them is revoked, the round fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto.manifests import content_of
from tg_workbench.crypto.signatures import SIGNATURE_BYTES, VerifyingKey
from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.devices.tables import DeviceKey
from tg_workbench.federation.rounds.phases import Part, Phase
from tg_workbench.federation.rounds.tables import (
    Participation,
    Round,
    SecureMessage,
    SecureParcel,
    SecureRound,
)
from tg_workbench.federation.updates.secure_aggregation import (
    Advertisement,
    Agreement,
    Parcel,
    Report,
    Roster,
    Survivors,
    Unmasking,
    left_out,
    members_of,
    message_of,
)
from tg_workbench.storage.database import now

NOT_IN = "this device is not, or no longer, in the round"


class Step(StrEnum):
    """What devices do now."""

    ADVERTISE = "advertise"
    SHARE = "share"
    REPORT = "report"
    MASK = "mask"
    AGREE = "agree"
    UNMASK = "unmask"


STEPS = tuple(Step)
Said = Mapping[str, Any]


class Exchange:
    """The exchange of one round that trains."""

    def __init__(self, session: Session, round_: Round) -> None:
        """Raises SecureAggregationRefused when there is none, or none any more."""
        self.session = session
        self.round = round_
        row = session.get(SecureRound, round_.id)
        if row is None:
            raise SecureAggregationRefused("the round is not training")
        self.row = row

    @property
    def step(self) -> Step:
        """What it takes now."""
        return Step(self.row.step)

    @property
    def devices(self) -> int:
        """How many devices it began with."""
        return len(self.row.keys)

    @cached_property
    def roster(self) -> Roster:
        """Who is in. Raises SecureAggregationRefused before that is settled."""
        return message_of(Roster, self.row.roster)

    @property
    def survivors(self) -> Survivors:
        """Whose vectors are in the sum. Raises SecureAggregationRefused before that is settled."""
        return message_of(Survivors, self.row.survivors)

    def verifying_keys(self) -> dict[str, VerifyingKey]:
        """What verifies the signatures of those it began with, by their ids."""
        query = select(DeviceKey).where(col(DeviceKey.device_id).in_(list(self.row.keys)))
        found = {
            key.device_id: VerifyingKey.from_bytes(key.signing_key)
            for key in self.session.exec(query)
            if self.row.keys[key.device_id] == key.version
        }
        return dict(sorted(found.items()))

    def verifying_key(self, device_id: str) -> VerifyingKey | None:
        """The one of a single device: with many devices, all of them take long to read."""
        version = self.row.keys.get(device_id)
        for key in self.session.exec(select(DeviceKey).where(DeviceKey.device_id == device_id)):
            if key.version == version:
                return VerifyingKey.from_bytes(key.signing_key)
        return None

    # ------------------------------------------------------------------------- what devices are told
    def mail_for(self, device_id: str) -> dict[str, Any] | None:
        """What a device needs for the step that it is in; None when it has done its part of it.

        Raises SecureAggregationRefused for one that is out.
        """
        if device_id not in self.row.keys or self.statuses().get(device_id) in (Part.DROPPED, Part.REJECTED):
            raise SecureAggregationRefused(NOT_IN)
        if self.has_said(device_id, self.step):
            return None
        match self.step:
            case Step.ADVERTISE:
                return {}
            case Step.SHARE:
                self._require(device_id in self.roster.digests)
                near = self.said(Step.ADVERTISE, self.roster.graph.neighbours(device_id))
                return {"roster": members_of(self.roster), "neighbours": list(near.values())}
            case Step.REPORT:
                self._require(self.has_said(device_id, Step.SHARE))
                return {"parcels": [members_of(parcel) for parcel in self.parcels(recipient=device_id)]}
            case Step.MASK:
                self._require(device_id in self.members)
                others = self.roster.graph.neighbours(device_id)
                return {"without": [name for name in others if name not in self.members]}
            case Step.AGREE:
                self._require(device_id in self.survivors.device_ids)
                return {"survivors": members_of(self.survivors)}
            case Step.UNMASK:
                self._require(self.has_said(device_id, Step.AGREE))
                return {"agreement": members_of(self.agreement)}

    @property
    def agreement(self) -> Agreement:
        """The survivors with the signatures of those who have signed."""
        said = self.said(Step.AGREE)
        signatures = {name: content_of(each["signature"], SIGNATURE_BYTES) for name, each in said.items()}
        return Agreement(self.survivors, {name: known for name, known in signatures.items() if known})

    def parcels(self, *, recipient: str | None = None) -> list[Parcel]:
        """The parcels of all, or those for one device, in order."""
        query = select(SecureParcel).where(SecureParcel.round_id == self.round.id)
        if recipient is not None:
            query = query.where(SecureParcel.recipient == recipient)
        ordered = query.order_by(col(SecureParcel.sender), col(SecureParcel.recipient))
        return [
            Parcel(row.sender, row.recipient, row.shares, row.pair, row.marks)
            for row in self.session.exec(ordered)
        ]

    def reports(self) -> dict[str, Report]:
        """What devices say of their neighbours' parcels."""
        return {name: message_of(Report, each) for name, each in self.said(Step.REPORT).items()}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Who is left out before anybody masks, and why; settled when the time to report is over."""
        return left_out(self.roster.graph, {name: each.broken for name, each in self.reports().items()})

    @cached_property
    def members(self) -> frozenset[str]:
        """Who may mask: those who have reported and are not left out."""
        return frozenset(self.sayers(Step.REPORT) - set(self.left_out))

    def advertisements(self) -> list[Advertisement]:
        """Those of the roster."""
        said = self.said(Step.ADVERTISE, self.roster.digests)
        return [message_of(Advertisement, each) for each in said.values()]

    def unmaskings(self) -> list[Unmasking]:
        """The shares that have come."""
        return [message_of(Unmasking, each) for each in self.said(Step.UNMASK).values()]

    # ------------------------------------------------------------------------- what is stored
    def statuses(self) -> dict[str, str]:
        """How the part of each device of the round stands."""
        query = select(Participation.device_id, Participation.status).where(
            Participation.round_id == self.round.id
        )
        return dict(self.session.exec(query).all())

    def sayers(self, step: Step) -> set[str]:
        """Who has said something in a step."""
        query = select(SecureMessage.device_id).where(
            SecureMessage.round_id == self.round.id, SecureMessage.step == step
        )
        return set(self.session.exec(query))

    def has_said(self, device_id: str, step: Step) -> bool:
        """Whether a device has done its part of a step."""
        if step is Step.MASK:
            return self.statuses().get(device_id) != Part.JOINED
        return self.session.get(SecureMessage, (self.round.id, step, device_id)) is not None

    def said(self, step: Step, among: Any = None) -> dict[str, dict[str, Any]]:
        """What devices have said in a step, by their ids and in the order of these."""
        query = select(SecureMessage).where(
            SecureMessage.round_id == self.round.id, SecureMessage.step == step
        )
        if among is not None:
            query = query.where(col(SecureMessage.device_id).in_(list(among)))
        ordered = query.order_by(SecureMessage.device_id)
        return {row.device_id: row.content for row in self.session.exec(ordered)}

    def require_time(self, step: str) -> None:
        """Raises SecureAggregationRefused unless it is time for this step."""
        if step != self.step or self.round.phase != Phase.TRAINING:
            raise SecureAggregationRefused(f"this is not the time: the round is at {self.step}")
        if self.round.due_at is not None and now() >= self.round.due_at:
            raise SecureAggregationRefused(f"it is too late to {self.step}")

    def _require(self, is_in: bool) -> None:
        if not is_in:
            raise SecureAggregationRefused(NOT_IN)


def forget_exchange(session: Session, round_: Round) -> None:
    """Delete all that was said in a round, when it is over."""
    session.flush()
    parcels, messages = sa.delete(SecureParcel), sa.delete(SecureMessage)
    for statement in (
        parcels.where(col(SecureParcel.round_id) == round_.id),
        messages.where(col(SecureMessage.round_id) == round_.id),
        sa.delete(SecureRound).where(col(SecureRound.round_id) == round_.id),
    ):
        session.connection().execute(statement)
