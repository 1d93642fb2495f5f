"""An exchange: what the devices of one secure round say to each other, carried by a workbench.

It goes in five steps, each with a deadline inside the training phase of its round; whoever is late for one is
out. All of it is in the database, so any process can go on where another was killed. Without numpy.

Pitfalls: whose vectors are in the sum is settled when masking ends, and devices sign it. From then on nobody
can be taken out of it: if one of them is revoked, the round fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto.manifests import Manifest, content_of
from tg_workbench.crypto.signatures import SIGNATURE_BYTES, VerifyingKey
from tg_workbench.errors import EnvelopeBroken, SecureAggregationRefused
from tg_workbench.federation.devices.tables import DeviceKey
from tg_workbench.federation.rounds.masking import MASKED_BY, SHORT
from tg_workbench.federation.rounds.phases import Part, Phase, Turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import (
    Participation,
    Round,
    SecureMessage,
    SecureParcel,
    SecureRound,
)
from tg_workbench.federation.updates import Layout
from tg_workbench.federation.updates.bindings import canonical
from tg_workbench.federation.updates.secure_aggregation import (
    LEAST_DEVICES,
    WORD_BYTES,
    Advertisement,
    Agreement,
    Parcel,
    Roster,
    Survivors,
    Unmasking,
    members_of,
    message_of,
)
from tg_workbench.federation.updates.secure_aggregation.encoding import MASKED
from tg_workbench.federation.updates.secure_aggregation.messages import AGREEING
from tg_workbench.storage.database import now

NOT_IN = "this device is not, or no longer, in the round"


class Step(StrEnum):
    """What devices do now."""

    ADVERTISE = "advertise"
    SHARE = "share"
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

    @classmethod
    def begin(cls, session: Session, round_: Round, spec: CampaignSpec) -> Exchange:
        """Settle who may take part, and with which keys. The caller holds a writing session."""
        joined = select(Participation.device_id).where(
            Participation.round_id == round_.id, Participation.status == Part.JOINED
        )
        query = select(DeviceKey).where(col(DeviceKey.device_id).in_(joined), DeviceKey.status == "active")
        newest = session.exec(query.order_by(col(DeviceKey.major), col(DeviceKey.minor)))
        keys = {key.device_id: key.version for key in newest}
        session.add(SecureRound(round_id=round_.id, step=Step.ADVERTISE, keys=dict(sorted(keys.items()))))
        session.flush()
        exchange = cls(session, round_)
        exchange._set_deadline(spec)
        return exchange

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

    # ------------------------------------------------------------------------- what devices say
    def say(self, device_id: str, step: str, said: Said) -> None:
        """Take what a device says in a step. The same again is the same. Raises SecureAggregationRefused."""
        digest = hashlib.sha256(canonical(said)).hexdigest()
        known = self.session.get(SecureMessage, (self.round.id, step, device_id))
        if known is not None:
            if known.digest != digest:
                raise SecureAggregationRefused("this device has said something else before")
            return
        self._require_time(step)
        kept = self._checked(device_id, said)
        self.session.add(
            SecureMessage(round_id=self.round.id, step=step, device_id=device_id, content=kept, digest=digest)
        )
        self.session.flush()

    def require_masked(self, device_id: str, manifest: Manifest) -> None:
        """It is time for this device's masked vector, and that is what this is the manifest of.

        Raises SecureAggregationRefused, EnvelopeBroken.
        """
        size = WORD_BYTES * (Layout.from_json(self.round.layout or "").size + 1)
        if manifest.compression != MASKED or manifest.payload_bytes != size:
            raise EnvelopeBroken(f"this round takes masked vectors of {size:,} bytes")
        self._require_time(Step.MASK)
        if not self._has_said(device_id, Step.SHARE):
            raise SecureAggregationRefused(NOT_IN)

    def _checked(self, device_id: str, said: Said) -> dict[str, Any]:
        """What is to be kept of what a device says now."""
        match self.step:
            case Step.ADVERTISE:
                self._check_advertisement(device_id, said)
            case Step.SHARE:
                self._keep_parcels(device_id, said)
                return {}
            case Step.AGREE:
                self._check_signature(device_id, said)
            case Step.UNMASK:
                self._check_shares(device_id, said)
            case Step.MASK:
                raise SecureAggregationRefused("a masked vector is submitted as an update is")
        return dict(said)

    def _check_advertisement(self, device_id: str, said: Said) -> None:
        advertised, key = message_of(Advertisement, dict(said)), self.verifying_keys().get(device_id)
        if key is None:
            raise SecureAggregationRefused(NOT_IN)
        if (advertised.round_id, advertised.device_id) != (self.round.id, device_id):
            raise SecureAggregationRefused("an advertisement is of another round or device")
        if not advertised.is_signed_by(key):
            raise SecureAggregationRefused("an advertisement is not signed by its device")

    def _keep_parcels(self, device_id: str, said: Said) -> None:
        if device_id not in self.roster.digests:
            raise SecureAggregationRefused(NOT_IN)
        listed = said.get("parcels")
        if set(said) != {"parcels"} or not isinstance(listed, list) or len(listed) > self.devices:
            raise SecureAggregationRefused("parcels come as one list")
        parcels = [message_of(Parcel, each) for each in listed]
        expected = list(self.roster.graph.neighbours(device_id))
        own = sorted(parcel.recipient for parcel in parcels if parcel.sender == device_id)
        if len(parcels) != len(own) or own != expected:
            raise SecureAggregationRefused("there is not one parcel for each neighbour")
        rows = [{"round_id": self.round.id, **_raw(parcel)} for parcel in parcels]
        self.session.connection().execute(sa.insert(SecureParcel), rows)

    def _check_signature(self, device_id: str, said: Said) -> None:
        survivors = self.survivors
        if device_id not in survivors.device_ids:
            raise SecureAggregationRefused(NOT_IN)
        signature = content_of(said.get("signature"), SIGNATURE_BYTES)
        key = self.verifying_keys().get(device_id)
        if set(said) != {"signature"} or signature is None or key is None:
            raise SecureAggregationRefused("a signature comes alone, in base64")
        if not key.verifies(signature, survivors.content, AGREEING):
            raise SecureAggregationRefused("a device did not sign these survivors")

    def _check_shares(self, device_id: str, said: Said) -> None:
        if not self._has_said(device_id, Step.AGREE):
            raise SecureAggregationRefused(NOT_IN)
        shares, stayed = message_of(Unmasking, dict(said)), set(self.survivors.device_ids)
        told = {*shares.own, *shares.pairs}
        if shares.device_id != device_id or not told <= set(self.roster.graph.holders(device_id)):
            raise SecureAggregationRefused("a device has sent shares that nobody asked for")
        if not set(shares.own) <= stayed or set(shares.pairs) & stayed:
            raise SecureAggregationRefused("a device has sent both shares of another, or the wrong one")

    # ------------------------------------------------------------------------- what devices are told
    def mail_for(self, device_id: str) -> dict[str, Any] | None:
        """What a device needs for the step that it is in; None when it has done its part of it.

        Raises SecureAggregationRefused for one that is out.
        """
        if device_id not in self.row.keys or self._statuses().get(device_id) == Part.DROPPED:
            raise SecureAggregationRefused(NOT_IN)
        if self._has_said(device_id, self.step):
            return None
        match self.step:
            case Step.ADVERTISE:
                return {}
            case Step.SHARE:
                self._require(device_id in self.roster.digests)
                near = self._said(Step.ADVERTISE, self.roster.graph.neighbours(device_id))
                return {"roster": members_of(self.roster), "neighbours": list(near.values())}
            case Step.MASK:
                self._require(self._has_said(device_id, Step.SHARE))
                return {"parcels": [members_of(parcel) for parcel in self.parcels(recipient=device_id)]}
            case Step.AGREE:
                self._require(device_id in self.survivors.device_ids)
                return {"survivors": members_of(self.survivors)}
            case Step.UNMASK:
                self._require(self._has_said(device_id, Step.AGREE))
                return {"agreement": members_of(self.agreement)}

    @property
    def agreement(self) -> Agreement:
        """The survivors with the signatures of those who have signed."""
        said = self._said(Step.AGREE)
        signatures = {name: content_of(each["signature"], SIGNATURE_BYTES) for name, each in said.items()}
        return Agreement(self.survivors, {name: known for name, known in signatures.items() if known})

    def parcels(self, *, recipient: str | None = None) -> list[Parcel]:
        """The parcels of all, or those for one device, in order."""
        query = select(SecureParcel).where(SecureParcel.round_id == self.round.id)
        if recipient is not None:
            query = query.where(SecureParcel.recipient == recipient)
        ordered = query.order_by(col(SecureParcel.sender), col(SecureParcel.recipient))
        return [Parcel(row.sender, row.recipient, row.shares, row.pair) for row in self.session.exec(ordered)]

    def advertisements(self) -> list[Advertisement]:
        """Those of the roster."""
        said = self._said(Step.ADVERTISE, self.roster.digests)
        return [message_of(Advertisement, each) for each in said.values()]

    def unmaskings(self) -> list[Unmasking]:
        """The shares that have come."""
        return [message_of(Unmasking, each) for each in self._said(Step.UNMASK).values()]

    # ------------------------------------------------------------------------- from step to step
    def close(self, spec: CampaignSpec, *, is_due: bool) -> Turn | None:
        """End the step if it is over; None when it is not. What is next in training is another step."""
        statuses = self._statuses()
        alive = {name for name in self.row.keys if statuses.get(name) not in (None, Part.DROPPED)}
        if self.step in (Step.AGREE, Step.UNMASK) and not set(self.survivors.device_ids) <= alive:
            return Turn(Phase.FAILED, "a device whose update is in the sum was revoked")
        expected, came = self._expected(statuses) & alive, self._came(statuses) & alive
        if self.step is Step.MASK and Part.SUBMITTED in statuses.values():
            return None  # what has arrived in time is looked into first
        if not expected <= came and not is_due:
            return None
        needed = max(self._needed, spec.criteria.needed)
        if len(came) < needed:
            told = f"{len(came)} devices were left to {self.step}, and {needed} are needed"
            return Turn(Phase.FAILED, f"secure aggregation goes no further: {told}")
        return self._go_on(spec, came)

    @property
    def _needed(self) -> int:
        return LEAST_DEVICES if self.step is Step.ADVERTISE else self.roster.needed

    def _expected(self, statuses: Mapping[str, str]) -> set[str]:
        """Who has still to come in this step, or has come."""
        match self.step:
            case Step.ADVERTISE:
                return set(self.row.keys)
            case Step.SHARE:
                return set(self.roster.digests)
            case Step.MASK:
                return {name for name in self._sayers(Step.SHARE) if statuses.get(name) != Part.REJECTED}
            case Step.AGREE:
                return set(self.survivors.device_ids)
            case Step.UNMASK:
                return self._sayers(Step.AGREE)

    def _came(self, statuses: Mapping[str, str]) -> set[str]:
        if self.step is Step.MASK:
            return {name for name in self._sayers(Step.SHARE) if statuses.get(name) == Part.ACCEPTED}
        return self._sayers(self.step)

    def _go_on(self, spec: CampaignSpec, came: set[str]) -> Turn:
        """Who is late is out, and the next step begins."""
        match self.step:
            case Step.ADVERTISE:
                said = self._said(Step.ADVERTISE, came).values()
                roster = Roster.of(self.round.id, (message_of(Advertisement, each) for each in said))
                self.row.roster = members_of(roster)
            case Step.MASK:
                listed = tuple(sorted(came))
                survivors = Survivors(self.round.id, self.roster.digest, listed)
                self.row.survivors = members_of(survivors)
            case Step.UNMASK:
                return Turn(Phase.AGGREGATING)
        if self.step in (Step.ADVERTISE, Step.SHARE, Step.MASK):
            self._drop_all_but(came)
        self.row.step = STEPS[STEPS.index(self.step) + 1]
        self.session.add(self.row)
        self._set_deadline(spec)
        return Turn(Phase.TRAINING)

    def _drop_all_but(self, came: set[str]) -> None:
        here = (Participation.round_id == self.round.id, Participation.status == Part.JOINED)
        for part in self.session.exec(select(Participation).where(*here)):
            if part.device_id not in came:
                part.status, part.ended_at = Part.DROPPED, now()
                part.reason = f"it came too late to {self.step}"
                self.session.add(part)

    def _set_deadline(self, spec: CampaignSpec) -> None:
        whole, began = spec.training_seconds, self.round.training_at or now()
        late = began + MASKED_BY * whole
        self.round.due_at = late if self.step is Step.MASK else now() + SHORT * whole
        self.session.add(self.round)
        self.session.flush()

    # ------------------------------------------------------------------------- what is stored
    def _statuses(self) -> dict[str, str]:
        query = select(Participation.device_id, Participation.status).where(
            Participation.round_id == self.round.id
        )
        return dict(self.session.exec(query).all())

    def _sayers(self, step: Step) -> set[str]:
        query = select(SecureMessage.device_id).where(
            SecureMessage.round_id == self.round.id, SecureMessage.step == step
        )
        return set(self.session.exec(query))

    def _has_said(self, device_id: str, step: Step) -> bool:
        if step is Step.MASK:
            return self._statuses().get(device_id) != Part.JOINED
        return self.session.get(SecureMessage, (self.round.id, step, device_id)) is not None

    def _said(self, step: Step, among: Any = None) -> dict[str, dict[str, Any]]:
        """What devices have said in a step, by their ids and in the order of these."""
        query = select(SecureMessage).where(
            SecureMessage.round_id == self.round.id, SecureMessage.step == step
        )
        if among is not None:
            query = query.where(col(SecureMessage.device_id).in_(list(among)))
        ordered = query.order_by(SecureMessage.device_id)
        return {row.device_id: row.content for row in self.session.exec(ordered)}

    def _require_time(self, step: str) -> None:
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


def _raw(parcel: Parcel) -> dict[str, Any]:
    return {
        "sender": parcel.sender,
        "recipient": parcel.recipient,
        "shares": parcel.shares,
        "pair": parcel.pair,
    }
