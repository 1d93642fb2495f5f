"""Closing: how an exchange goes from step to step, each with a deadline inside the training of its round."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlmodel import Session, col, select

from tg_workbench.events import Events, UpdateRefused, tenant_subject
from tg_workbench.federation.devices.device_keys import KeyStatus, is_good
from tg_workbench.federation.devices.tables import DeviceKey
from tg_workbench.federation.rounds.exchange import STEPS, Exchange, Step
from tg_workbench.federation.rounds.masking import MASKED_BY, SHORT
from tg_workbench.federation.rounds.phases import Part, Phase, Turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Participation, Round, SecureRound
from tg_workbench.federation.updates.secure_aggregation import (
    LEAST_DEVICES,
    Advertisement,
    Roster,
    Survivors,
    members_of,
    message_of,
)
from tg_workbench.storage.database import now

log = logging.getLogger(__name__)


def begin_exchange(session: Session, round_: Round, spec: CampaignSpec) -> None:
    """Settle who may take part, and with which keys: the newest that are good, also while newer ones are due.

    The caller holds a writing session.
    """
    joined = select(Participation.device_id).where(
        Participation.round_id == round_.id, Participation.status == Part.JOINED
    )
    standing = col(DeviceKey.status).in_((KeyStatus.ACTIVE, KeyStatus.ROTATING))
    query, moment = select(DeviceKey).where(col(DeviceKey.device_id).in_(joined), standing), now()
    newest = session.exec(query.order_by(col(DeviceKey.major), col(DeviceKey.minor)))
    keys = {key.device_id: key.version for key in newest if is_good(key, moment)}
    session.add(SecureRound(round_id=round_.id, step=Step.ADVERTISE, keys=dict(sorted(keys.items()))))
    session.flush()
    Closing(Exchange(session, round_)).set_deadline(spec)


class Closing:
    """Ends the steps of one exchange, in a writing session."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.session, self.round = exchange.session, exchange.round

    def close(self, spec: CampaignSpec, *, is_due: bool) -> Turn | None:
        """End the step if it is over; None when it is not. What is next in training is another step."""
        statuses = self.exchange.statuses()
        alive = {name for name in self.exchange.row.keys if statuses.get(name) not in (None, Part.DROPPED)}
        is_settled = self.exchange.step in (Step.AGREE, Step.UNMASK)
        if is_settled and not set(self.exchange.survivors.device_ids) <= alive:
            return Turn(Phase.FAILED, "a device whose update is in the sum was revoked")
        expected, came = self._expected(statuses) & alive, self._came(statuses) & alive
        if self.exchange.step is Step.MASK and Part.SUBMITTED in statuses.values():
            return None  # what has arrived in time is looked into first
        if not expected <= came and not is_due:
            return None
        if self.exchange.step is Step.REPORT:
            self._leave_out(came)
            came &= self.exchange.members
        needed = max(self._needed, spec.criteria.needed)
        if len(came) < needed:
            told = f"{len(came)} devices were left to {self.exchange.step}, and {needed} are needed"
            return Turn(Phase.FAILED, f"secure aggregation goes no further: {told}")
        return self._go_on(spec, came)

    @property
    def _needed(self) -> int:
        return LEAST_DEVICES if self.exchange.step is Step.ADVERTISE else self.exchange.roster.needed

    def _expected(self, statuses: Mapping[str, str]) -> set[str]:
        """Who has still to come in this step, or has come."""
        match self.exchange.step:
            case Step.ADVERTISE:
                return set(self.exchange.row.keys)
            case Step.SHARE:
                return set(self.exchange.roster.digests)
            case Step.REPORT:
                return self.exchange.sayers(Step.SHARE)
            case Step.MASK:
                return {name for name in self.exchange.members if statuses.get(name) != Part.REJECTED}
            case Step.AGREE:
                return set(self.exchange.survivors.device_ids)
            case Step.UNMASK:
                return self.exchange.sayers(Step.AGREE)

    def _came(self, statuses: Mapping[str, str]) -> set[str]:
        if self.exchange.step is Step.MASK:
            return {name for name in self.exchange.members if statuses.get(name) == Part.ACCEPTED}
        return self.exchange.sayers(self.exchange.step)

    def _go_on(self, spec: CampaignSpec, came: set[str]) -> Turn:
        """Who is late is out, and the next step begins."""
        match self.exchange.step:
            case Step.ADVERTISE:
                said = self.exchange.said(Step.ADVERTISE, came).values()
                roster = Roster.of(self.round.id, (message_of(Advertisement, each) for each in said))
                self.exchange.row.roster = members_of(roster)
            case Step.MASK:
                listed = tuple(sorted(came))
                survivors = Survivors(self.round.id, self.exchange.roster.digest, listed)
                self.exchange.row.survivors = members_of(survivors)
            case Step.UNMASK:
                return Turn(Phase.AGGREGATING)
        if self.exchange.step in (Step.ADVERTISE, Step.SHARE, Step.REPORT, Step.MASK):
            self._drop_all_but(came)
        self.exchange.row.step = STEPS[STEPS.index(self.exchange.step) + 1]
        self.session.add(self.exchange.row)
        self.set_deadline(spec)
        return Turn(Phase.TRAINING)

    def _leave_out(self, came: set[str]) -> None:
        """Name those who did not share their secrets with the others, or say so of too many of them."""
        for part in self.session.exec(select(Participation).where(Participation.round_id == self.round.id)):
            reason = self.exchange.left_out.get(part.device_id)
            if reason is None or part.device_id not in came:
                continue
            part.status, part.reason, part.ended_at = Part.REJECTED, reason, now()
            self.session.add(part)
            log.warning("round %s: %s is left out: %s", self.round.id, part.device_id, reason)
            refused = UpdateRefused(self.round.id, part.device_id, reason)
            Events(self.session).record(tenant_subject(self.round.tenant_id), refused)
        self.session.flush()

    def _drop_all_but(self, came: set[str]) -> None:
        here = (Participation.round_id == self.round.id, Participation.status == Part.JOINED)
        for part in self.session.exec(select(Participation).where(*here)):
            if part.device_id not in came:
                part.status, part.ended_at = Part.DROPPED, now()
                part.reason = f"it came too late to {self.exchange.step}"
                self.session.add(part)

    def set_deadline(self, spec: CampaignSpec) -> None:
        """When the step ends at the latest."""
        whole, began = spec.training_seconds, self.round.training_at or now()
        late = began + MASKED_BY * whole
        self.round.due_at = late if self.exchange.step is Step.MASK else now() + SHORT * whole
        self.session.add(self.round)
        self.session.flush()
