"""Conducting: what a campaign's worker does, one thing at a time, each behind its fence.

Pitfalls: what is opened here are single devices' updates, in memory and nowhere else. They are never logged,
and an error says of a device what was wrong with its update, never what was in it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sqlmodel import Session, col, select

from tg_workbench.execution import Fence, release_work
from tg_workbench.federation.rounds.aggregating import Aggregating
from tg_workbench.federation.rounds.global_models import GlobalModel, GlobalModels
from tg_workbench.federation.rounds.judging import Judging
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.parts import waiting_in
from tg_workbench.federation.rounds.phases import ACTIVE, Phase, Turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Round
from tg_workbench.federation.rounds.turns import advance, end_campaign, end_round, enter
from tg_workbench.storage import Blobs, Database, LeftBlobs
from tg_workbench.storage.database import now


class Conductor:
    """Does what is next for one campaign."""

    def __init__(self, database: Database, blobs: Blobs, home: Path, folder: Path, fence: Fence) -> None:
        self.database = database
        self.blobs = blobs
        self.home = home
        self.folder = folder
        self.fence = fence
        self.models = GlobalModels(blobs, home, partial(LeftBlobs.announce, database, blobs, hold=fence.hold))
        self.tenant_id = ""
        """Whose campaign it is, once it has been looked at."""
        self.judging = Judging(database, blobs, home, fence)
        self.aggregating = Aggregating(database, blobs, home, fence)

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
                self.aggregating.aggregate(campaign, round_, spec)
            case Phase.TRAINING:
                return self.judging.judge_next(round_, spec) or self._advance(round_, spec)
            case _:
                return self._advance(round_, spec)
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
                self.aggregating.give_up(session, round_)
                end_round(session, round_, Turn(Phase.FAILED, reason), self.blobs)
            if campaign.status == "active":
                end_campaign(session, campaign, "failed", self.blobs, reason)

    # ------------------------------------------------------------------------------- preparing
    def _prepare(self, campaign: Campaign, round_: Round, spec: CampaignSpec) -> None:
        """Make the model that a round starts from ready for devices, under keys of this round."""
        model = self._model(campaign, spec)
        keys = RoundKeys.generate()
        download = self.models.put_for_devices(model, round_, keys)
        kept = None if campaign.model_blob else self.models.put(self.database, campaign, model)
        files = [download.blob, *(kept.blobs if kept else ())]
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
            enter(session, round_, Phase.TRAINING if spec.is_asynchronous else Phase.RECRUITING, spec)
            self.fence.forgive(session)

    def _model(self, campaign: Campaign, spec: CampaignSpec) -> GlobalModel:
        """The campaign's model as it is now; the first one is made from its seed."""
        if campaign.model_blob is None:
            return GlobalModel.new(spec)
        with self.database.read() as session:
            return self.models.read(session, campaign)

    def _advance(self, round_: Round, spec: CampaignSpec) -> bool:
        with self.database.write() as session:
            self.fence.hold(session)
            return advance(session, session.get_one(Round, round_.id), spec, self.blobs)


def _current(session: Session, campaign: Campaign) -> Round | None:
    """The campaign's round that is under way."""
    query = select(Round).where(Round.campaign_id == campaign.id, col(Round.phase).in_(ACTIVE))
    return session.exec(query).first()


def _is_waiting_for_worker(session: Session, round_: Round) -> bool:
    if round_.phase in (Phase.PREPARING, Phase.AGGREGATING):
        return True
    if round_.due_at is not None and now() >= round_.due_at:
        return True
    return waiting_in(session, round_.campaign_id) is not None
