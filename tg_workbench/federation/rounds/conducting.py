"""Conducting: what a campaign's worker does, one thing at a time, each behind its fence.

Pitfalls: what is opened here are single devices' updates, in memory and nowhere else. They are never logged,
and an error says of a device what was wrong with its update, never what was in it.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from tg_workbench.crypto.envelopes import open_payload, read_head
from tg_workbench.crypto.manifests import Manifest
from tg_workbench.errors import EnvelopeBroken, SealBroken, UpdateInvalid
from tg_workbench.events import Events, UpdateRefused, tenant_subject
from tg_workbench.execution import Fence, release_work
from tg_workbench.federation.rounds.campaigns import new_round
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.rounds.global_models import GlobalModel, GlobalModels, KeptModel
from tg_workbench.federation.rounds.harvests import figures_of, harvest
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.masking import encoding_of
from tg_workbench.federation.rounds.phases import ACTIVE, Part, Phase, Turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.submissions import verifying_key
from tg_workbench.federation.rounds.summing import Masked, Summed, Summing
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.rounds.turns import (
    advance,
    end_campaign,
    end_round,
    enter,
    forget_after,
    tell,
)
from tg_workbench.federation.rounds.unmasking import unmasked, words_in
from tg_workbench.federation.strategies import Update, named
from tg_workbench.federation.updates import Layout, read_update
from tg_workbench.models import Models
from tg_workbench.storage import Blobs, Database
from tg_workbench.storage.database import now

if TYPE_CHECKING:
    from tg_workbench.federation.updates.secure_aggregation.masks import Words

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
        self.summing = Summing(database, blobs, home, fence)

    def step(self) -> bool:
        """Do the next thing there is; False when there is none now. Raises WorkbenchError."""
        with self.database.read() as session:
            campaign = session.get_one(Campaign, self.fence.work_id)
            round_ = _current(session, campaign)
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
                self.summing.give_up(session, campaign, round_)
                end_round(session, round_, Turn(Phase.FAILED, reason), self.blobs)
            if campaign.status == "active":
                end_campaign(session, campaign, "failed", reason)

    # ------------------------------------------------------------------------------- preparing
    def _prepare(self, campaign: Campaign, round_: Round, spec: CampaignSpec) -> None:
        """Make the model that a round starts from ready for devices, under keys of this round."""
        model = self._model(campaign, spec)
        keys = RoundKeys.generate()
        download = self.models.put_for_devices(model, round_, keys)
        kept = None if campaign.model_blob else self.models.put(self.database, campaign, model)
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            round_ = session.get_one(Round, round_.id)
            if round_.phase != Phase.PREPARING:  # cancelled meanwhile
                self.blobs.delete(download.blob)
                return
            if kept is not None:
                campaign = session.get_one(Campaign, campaign.id)
                campaign.model_blob, campaign.state_blob = kept.model_blob, kept.state_blob
                campaign.key_id, campaign.model_digest = kept.key_id, model.digest
                session.add(campaign)
            round_.layout, round_.base_digest = model.layout.as_json(), model.digest
            round_.download_blob, round_.download_bytes = download.blob, download.size_bytes
            keys.store(session, self.home, round_)
            enter(session, round_, Phase.RECRUITING, spec)

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
        look = self._open_masked if spec.secure_aggregation else self._open
        try:
            look(part, round_, keys, spec)
        except (EnvelopeBroken, SealBroken, UpdateInvalid) as failure:
            reason = str(failure)
        self._judge(part, round_, spec, reason)
        return True

    def _open(self, part: Participation, round_: Round, keys: RoundKeys, spec: CampaignSpec) -> Update:
        """The update in an envelope. Raises EnvelopeBroken, SealBroken, UpdateInvalid."""
        strategy = named(spec.strategy, **spec.strategy_options)
        manifest, payload = self._payload(part, keys)
        return read_update(
            payload,
            Layout.from_json(round_.layout or ""),
            weight=float(manifest.sample_count),
            control=strategy.local.control,
        )

    def _open_masked(
        self, part: Participation, round_: Round, keys: RoundKeys, spec: CampaignSpec
    ) -> tuple[str, Words]:
        """The masked vector in an envelope. Raises EnvelopeBroken, SealBroken, UpdateInvalid."""
        _, payload = self._payload(part, keys)
        return part.device_id, words_in(payload, Layout.from_json(round_.layout or "").size + 1)

    def _payload(self, part: Participation, keys: RoundKeys) -> tuple[Manifest, bytes]:
        """What an envelope says and holds. Raises EnvelopeBroken, SealBroken."""
        with self.blobs.path(part.blob or "").open("rb") as file:
            head = read_head(file)
            with self.database.read() as session:
                signed_by = verifying_key(session, part.device_id, head.manifest.key_version)
            return head.manifest, b"".join(open_payload(head.verify(signed_by), file, keys.opening))

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
                forget_after(session, self.blobs, [part.blob] if part.blob else [])
                part.blob, part.ended_at = None, now()
            session.add(part)
            if not advance(session, round_, spec, self.blobs):
                tell(session, round_)

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
        summed = self._summed(campaign, round_, base, parts, keys)
        outcome = summed.outcome
        made = base.followed_by(outcome)
        kept = self.models.put(self.database, campaign, made)
        figures = figures_of(parts, outcome, base, tells_of_devices=summed.release is None)
        is_last = round_.number == spec.rounds
        learned = harvest(campaign, made, spec, summed.privacy) if is_last else None
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            round_, campaign = session.get_one(Round, round_.id), session.get_one(Campaign, campaign.id)
            same = [part.device_id for part in _accepted(session, round_)] == [p.device_id for p in parts]
            if round_.phase != Phase.AGGREGATING or not same:
                self.models.drop(kept)
                return
            self.summing.write(session, campaign, round_, summed)
            self._publish(session, campaign, round_, made, kept, figures)
            if learned is not None:
                campaign.model_id = Models(session, self.blobs, self.home).register(learned).id
                self.summing.end(session, campaign)
                end_campaign(session, campaign, "completed")
            else:
                new_round(session, campaign)

    def _summed(
        self,
        campaign: Campaign,
        round_: Round,
        base: GlobalModel,
        parts: list[Participation],
        keys: RoundKeys,
    ) -> Summed:
        """What these updates come to. Raises what `Summing.of` and `unmasked` do."""
        spec = CampaignSpec.from_json(campaign.spec)
        if not spec.secure_aggregation:
            opened = partial(self._open, round_=round_, keys=keys, spec=spec)
            return self.summing.of(campaign, round_, base, parts, opened)
        vectors = (self._open_masked(part, round_, keys, spec) for part in parts)
        with self.database.read() as session:
            exchange = Exchange(session, session.get_one(Round, round_.id))
            encoding = encoding_of(spec, exchange.devices)
            total = unmasked(exchange, base.layout.size + 1, vectors)
        return self.summing.of_masked(campaign, round_, base, parts, Masked(total, encoding))

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
        forget_after(session, self.blobs, old)
        round_.result_version, round_.result_digest, round_.figures = made.version, made.digest, figures
        end_round(session, round_, Turn(Phase.COMPLETED), self.blobs)


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
