"""Conducting: what a campaign's worker does, one thing at a time, each behind its fence.

Pitfalls: what is opened here are single devices' updates, in memory and nowhere else. They are never logged,
and an error says of a device what was wrong with its update, never what was in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from tg_workbench.events import Events, UpdateRefused, tenant_subject
from tg_workbench.execution import Fence, release_work
from tg_workbench.federation.rounds.campaigns import new_round
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.rounds.global_models import GlobalModel, GlobalModels, KeptModel
from tg_workbench.federation.rounds.harvests import figures_of, harvest
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.left_blobs import LeftBlobs
from tg_workbench.federation.rounds.masking import encoding_of
from tg_workbench.federation.rounds.opening import UNUSABLE, Opening
from tg_workbench.federation.rounds.phases import ACTIVE, Part, Phase, Turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.summing import Masked, Summed, Summing
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.rounds.turns import (
    advance,
    end_campaign,
    end_round,
    enter,
    tell,
)
from tg_workbench.federation.rounds.unmasking import unmasked
from tg_workbench.federation.rounds.weights import weights_of
from tg_workbench.federation.strategies import Update
from tg_workbench.models import Models
from tg_workbench.storage import Blobs, Database
from tg_workbench.storage.database import now

log = logging.getLogger(__name__)


class Conductor:
    """Does what is next for one campaign."""

    def __init__(self, database: Database, blobs: Blobs, home: Path, folder: Path, fence: Fence) -> None:
        self.database = database
        self.blobs = blobs
        self.home = home
        self.folder = folder
        self.fence = fence
        self.models = GlobalModels(blobs, home)
        self.tenant_id = ""
        """Whose campaign it is, once it has been looked at."""
        self.summing = Summing(database, blobs, home, fence)

    def step(self) -> bool:
        """Do the next thing there is; False when there is none now. Raises WorkbenchError."""
        with self.database.read() as session:
            campaign = session.get_one(Campaign, self.fence.work_id)
            round_ = _current(session, campaign)
        self.tenant_id = campaign.tenant_id
        if round_ is None:
            return False
        spec = CampaignSpec.from_json(campaign.spec)
        match Phase(round_.phase):
            case Phase.PREPARING:
                self._prepare(campaign, round_, spec)
            case Phase.AGGREGATING:
                self._aggregate(campaign, round_, spec)
            case _:
                return self._look_into_next(round_, spec) or self._advance(round_, spec)
        return True

    def rest(self) -> bool:
        """Say that no worker is needed for now, unless there is something to be done."""
        with self.database.write() as session:
            self.fence.hold(session)
            campaign = session.get_one(Campaign, self.fence.work_id)
            round_ = _current(session, campaign)
            if round_ is not None and _is_waiting_for_worker(session, round_):
                return False
            release_work(session, self.fence.work_id)
        return True

    def give_up(self, reason: str) -> None:
        """End the campaign, for it cannot go on."""
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            campaign = session.get_one(Campaign, self.fence.work_id)
            round_ = _current(session, campaign)
            if round_ is not None:
                self.summing.give_up(session, round_)
                end_round(session, round_, Turn(Phase.FAILED, reason), self.blobs)
            if campaign.status == "active":
                end_campaign(session, campaign, "failed", reason)

    def _expect(self, names: Iterable[str]) -> None:
        with self.database.write() as session:
            self.fence.hold(session)
            LeftBlobs(session, self.blobs).expect(names)

    def _forgive(self, session: Session) -> None:
        """Something was done: workers that were lost before it were not lost to this campaign.

        It is given up when workers are lost at the same thing again and again, not for five in a year.
        """
        self.fence.renew(session, failures=0)

    # ------------------------------------------------------------------------------- preparing
    def _prepare(self, campaign: Campaign, round_: Round, spec: CampaignSpec) -> None:
        """Make the model that a round starts from ready for devices, under keys of this round."""
        model = self._model(campaign, spec)
        keys = RoundKeys.generate()
        download = self.models.put_for_devices(model, round_, keys)
        kept = None if campaign.model_blob else self.models.put(self.database, campaign, model)
        files = [download.blob, *(kept.blobs if kept else ())]
        self._expect(files)
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            round_ = session.get_one(Round, round_.id)
            if round_.phase != Phase.PREPARING:  # cancelled meanwhile
                LeftBlobs(session, self.blobs).forget(files)
                return
            LeftBlobs(session, self.blobs).named(files)
            if kept is not None:
                campaign = session.get_one(Campaign, campaign.id)
                campaign.model_blob, campaign.state_blob = kept.model_blob, kept.state_blob
                campaign.key_id, campaign.model_digest = kept.key_id, model.digest
                session.add(campaign)
            round_.layout, round_.base_digest = model.layout.as_json(), model.digest
            round_.download_blob, round_.download_bytes = download.blob, download.size_bytes
            keys.store(session, self.home, round_)
            enter(session, round_, Phase.RECRUITING, spec)
            self._forgive(session)

    def _model(self, campaign: Campaign, spec: CampaignSpec) -> GlobalModel:
        """The campaign's model as it is now; the first one is made from its seed."""
        if campaign.model_blob is None:
            return GlobalModel.new(spec)
        with self.database.read() as session:
            return self.models.read(session, campaign)

    # ------------------------------------------------------------------------------- looking into updates
    def _look_into_next(self, round_: Round, spec: CampaignSpec) -> bool:
        """Accept or reject the update that came first; False when none waits."""
        with self.database.read() as session:
            query = select(Participation).where(
                Participation.round_id == round_.id, Participation.status == Part.SUBMITTED
            )
            part = session.exec(query.order_by(col(Participation.submitted_at))).first()
            if part is None:
                return False
            keys = RoundKeys.of(session, self.home, round_)
        reason: str | None = None
        try:
            Opening(self.database, self.blobs, round_, keys, spec).check(part)
        except UNUSABLE as failure:
            reason = str(failure)
        self._judge(part, round_, spec, reason)
        return True

    def _judge(self, part: Participation, round_: Round, spec: CampaignSpec, reason: str | None) -> None:
        """Write down what became of an update; a rejected one is deleted at once."""
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            part = session.get_one(Participation, part.id)
            round_ = session.get_one(Round, round_.id)
            if part.status != Part.SUBMITTED or round_.phase != Phase.TRAINING:
                return
            part.status = Part.ACCEPTED if reason is None else Part.REJECTED
            part.reason = reason
            if reason is not None:
                log.warning("round %s: the update of %s was rejected: %s", round_.id, part.device_id, reason)
                rejected = UpdateRefused(round_.id, part.device_id, reason)
                Events(session).record(tenant_subject(round_.tenant_id), rejected)
                LeftBlobs(session, self.blobs).forget([part.blob] if part.blob else [])
                part.blob, part.ended_at = None, now()
            session.add(part)
            if not advance(session, round_, spec, self.blobs):
                tell(session, round_)
            self._forgive(session)

    def _advance(self, round_: Round, spec: CampaignSpec) -> bool:
        with self.database.write() as session:
            self.fence.hold(session)
            return advance(session, session.get_one(Round, round_.id), spec, self.blobs)

    # ------------------------------------------------------------------------------- aggregating
    def _aggregate(self, campaign: Campaign, round_: Round, spec: CampaignSpec) -> None:
        """Make the next model. Who is dropped meanwhile does not count: then it begins anew."""
        with self.database.read() as session:
            parts = _accepted(session, round_)
            keys = RoundKeys.of(session, self.home, round_)
            base = self.models.read(session, campaign)
        if len(parts) < spec.criteria.needed:
            self.give_up(f"{len(parts)} updates are left, and {spec.criteria.needed} are needed")
            return
        weights = weights_of({part.device_id: part.sample_count or 0 for part in parts}, spec.criteria)
        opening = Opening(self.database, self.blobs, round_, keys, spec)
        try:
            if spec.secure_aggregation:
                summed = self._unmasked(campaign, round_, base, parts, opening)
            else:
                opened = partial(_open_again, opening, weights)
                summed = self.summing.of(campaign, round_, base, parts, opened)
        except _Spoiled as spoiled:
            self._leave_out(spoiled.part, round_, spoiled.reason)
            return
        outcome = summed.outcome
        made = base.followed_by(outcome)
        kept = self.models.put(self.database, campaign, made)
        self._expect(kept.blobs)
        tells = summed.release is None and not spec.secure_aggregation
        figures = figures_of(parts, weights if tells else None, outcome, base)
        is_last = round_.number == spec.rounds
        learned = harvest(campaign, made, spec, summed.privacy) if is_last else None
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            round_, campaign = session.get_one(Round, round_.id), session.get_one(Campaign, campaign.id)
            same = [part.device_id for part in _accepted(session, round_)] == [p.device_id for p in parts]
            if round_.phase != Phase.AGGREGATING or not same:
                LeftBlobs(session, self.blobs).forget(kept.blobs)
                return
            LeftBlobs(session, self.blobs).named(kept.blobs)
            self.summing.write(session, campaign, round_, summed)
            self._publish(session, campaign, round_, made, kept, figures)
            if learned is not None:
                campaign.model_id = Models(session, self.blobs, self.home).register(learned).id
                end_campaign(session, campaign, "completed")
            else:
                new_round(session, campaign)
            self._forgive(session)

    def _unmasked(
        self,
        campaign: Campaign,
        round_: Round,
        base: GlobalModel,
        parts: list[Participation],
        opening: Opening,
    ) -> Summed:
        """What a sum under masks comes to, of which nobody can be left out any more. Raises as `unmasked`."""
        spec, vectors = CampaignSpec.from_json(campaign.spec), map(opening.words, parts)
        with self.database.read() as session:
            exchange = Exchange(session, session.get_one(Round, round_.id))
            encoding = encoding_of(spec, exchange.devices)
            total = unmasked(exchange, base.layout.size + 1, vectors)
        return self.summing.of_masked(campaign, round_, base, parts, Masked(total, encoding))

    def _leave_out(self, part: Participation, round_: Round, reason: str) -> None:
        """Have the others be summed without an update that was good once. No device stops a round."""
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            part = session.get_one(Participation, part.id)
            if part.status != Part.ACCEPTED:
                return
            part.status, part.reason, part.ended_at = Part.REJECTED, reason, now()
            session.add(part)
            refused = UpdateRefused(round_.id, part.device_id, reason)
            Events(session).record(tenant_subject(round_.tenant_id), refused)
            tell(session, session.get_one(Round, round_.id))

    def _publish(
        self,
        session: Session,
        campaign: Campaign,
        round_: Round,
        made: GlobalModel,
        kept: KeptModel,
        figures: dict[str, Any],
    ) -> None:
        """Have the campaign's model be the new one, and the round be over."""
        old = tuple(blob for blob in (campaign.model_blob, campaign.state_blob) if blob)
        campaign.model_blob, campaign.state_blob, campaign.key_id = (
            kept.model_blob,
            kept.state_blob,
            kept.key_id,
        )
        campaign.model_version, campaign.model_digest = made.version, made.digest
        campaign.rounds_done += 1
        session.add(campaign)
        LeftBlobs(session, self.blobs).forget(old)
        round_.result_version, round_.result_digest, round_.figures = made.version, made.digest, figures
        end_round(session, round_, Turn(Phase.COMPLETED), self.blobs)


class _Spoiled(Exception):
    """An update that was accepted cannot be opened any more."""

    def __init__(self, part: Participation, reason: str) -> None:
        super().__init__(reason)
        self.part = part
        self.reason = reason


def _open_again(opening: Opening, weights: Mapping[str, float], part: Participation) -> Update:
    """An update that was accepted. Raises _Spoiled for one that cannot be opened any more."""
    try:
        return opening.update(part, weights[part.device_id])
    except UNUSABLE as failure:
        raise _Spoiled(part, str(failure)) from failure


def _current(session: Session, campaign: Campaign) -> Round | None:
    """The campaign's round that is under way."""
    query = select(Round).where(Round.campaign_id == campaign.id, col(Round.phase).in_(ACTIVE))
    return session.exec(query).first()


def _accepted(session: Session, round_: Round) -> list[Participation]:
    """The parts whose updates count, always in the same order: so the sum is the same to the last bit."""
    query = select(Participation).where(
        Participation.round_id == round_.id, Participation.status == Part.ACCEPTED
    )
    return list(session.exec(query.order_by(Participation.device_id)))


def _is_waiting_for_worker(session: Session, round_: Round) -> bool:
    if round_.phase in (Phase.PREPARING, Phase.AGGREGATING):
        return True
    if round_.due_at is not None and now() >= round_.due_at:
        return True
    query = select(Participation.id).where(
        Participation.round_id == round_.id, Participation.status == Part.SUBMITTED
    )
    return session.exec(query.limit(1)).first() is not None
