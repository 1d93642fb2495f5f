"""Campaigns: models that devices learn together, as the API sees them.

A campaign is one round or many, one after another; each starts from the model that the one before it made.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import (
    CampaignNotFound,
    IdempotencyConflict,
    InvalidField,
    PermissionDenied,
    QuotaExceeded,
    Refused,
)
from tg_workbench.execution import Turn as WorkTurn
from tg_workbench.execution import request_worker
from tg_workbench.federation.flower import is_flower, require_flower, strategy_named
from tg_workbench.federation.rounds.masking import check_secure
from tg_workbench.federation.rounds.phases import ACTIVE, Phase, Turn
from tg_workbench.federation.rounds.specs import WORK_KIND, CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Round
from tg_workbench.federation.rounds.turns import end_campaign, end_round, new_round
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs

MOST_ACTIVE = 20
"""How many campaigns an organisation may have under way."""


class Campaigns:
    """The campaigns of a workbench; those of an organisation are seen by its members."""

    def __init__(
        self, session: Session, folder: Path, blobs: Blobs, *, flower_python: Path | None = None
    ) -> None:
        self.session = session
        self.folder = folder
        self.blobs = blobs
        self.flower_python = flower_python

    def start(
        self, owner: Principal, spec: CampaignSpec, *, idempotency_key: str | None = None
    ) -> tuple[Campaign, Round]:
        """Start a campaign, and its first round. The same key gives the same ones.

        Raises IdempotencyConflict, QuotaExceeded, InvalidRequest for what its worker could only refuse later.
        """
        check(spec)
        if is_flower(spec.strategy):
            require_flower(self.flower_python)
        fingerprint = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode()).hexdigest()
        if (known := self._by_key(owner, idempotency_key)) is not None:
            if known.fingerprint != fingerprint:
                raise IdempotencyConflict
            return known, self._first_round(known)
        self._require_room(owner)
        campaign = Campaign(
            id=f"camp_{uuid.uuid4().hex}",
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            name=spec.name or f"{spec.architecture} by {spec.strategy}",
            spec=spec.as_json(),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
        )
        self.session.add(campaign)
        self.session.flush()
        first = new_round(self.session, campaign)
        ask_for_worker(self.session, self.folder, campaign)
        return campaign, first

    def get(self, owner: Principal, campaign_id: str) -> Campaign:
        """The campaign. Raises CampaignNotFound, also when it is another organisation's."""
        campaign = self.session.get(Campaign, campaign_id)
        if campaign is None or campaign.tenant_id != owner.tenant_id:
            raise CampaignNotFound
        return campaign

    def list_rounds(self, campaign: Campaign, *, limit: int = 50, offset: int = 0) -> tuple[list[Round], int]:
        """Its newest rounds but for the last `offset`, in order, and how many it has had."""
        its = col(Round.campaign_id) == campaign.id
        total = self.session.exec(select(sa.func.count()).select_from(Round).where(its)).one()
        query = select(Round).where(its).order_by(col(Round.number).desc()).limit(limit).offset(offset)
        return list(reversed(self.session.exec(query).all())), total

    def list_page(self, owner: Principal, *, limit: int = 50, offset: int = 0) -> tuple[list[Campaign], int]:
        """The organisation's campaigns, the newest first, and how many there are."""
        ours = col(Campaign.tenant_id) == owner.tenant_id
        total = self.session.exec(select(sa.func.count()).select_from(Campaign).where(ours)).one()
        newest = (col(Campaign.created_at).desc(), col(Campaign.id))
        query = select(Campaign).where(ours).order_by(*newest).limit(limit).offset(offset)
        return list(self.session.exec(query)), total

    def cancel(self, owner: Principal, campaign_id: str) -> Campaign:
        """End a campaign now; what its rounds have made so far stays. One that is over stays as it is.

        Its owner may, and an administrator of the organisation; the other members only see it.

        Raises CampaignNotFound, PermissionDenied; Refused while a round is aggregated, which takes seconds.
        """
        campaign = self.get(owner, campaign_id)
        if campaign.owner_id != owner.id and not owner.may("admin"):
            raise PermissionDenied("only its owner or an administrator of the organisation ends a campaign")
        if campaign.status != "active":
            return campaign
        active = select(Round).where(Round.campaign_id == campaign.id, col(Round.phase).in_(ACTIVE))
        for round_ in self.session.exec(active).all():
            if round_.phase == Phase.AGGREGATING:
                raise Refused("its updates are being aggregated: cancel it in a moment")
            end_round(self.session, round_, Turn(Phase.FAILED, "its campaign was cancelled"), self.blobs)
        end_campaign(self.session, campaign, "cancelled", self.blobs)
        return campaign

    def _first_round(self, campaign: Campaign) -> Round:
        query = select(Round).where(Round.campaign_id == campaign.id).order_by(col(Round.number))
        return self.session.exec(query.limit(1)).one()

    def _by_key(self, owner: Principal, key: str | None) -> Campaign | None:
        if key is None:
            return None
        query = select(Campaign).where(Campaign.owner_id == owner.id, Campaign.idempotency_key == key)
        return self.session.exec(query).first()

    def _require_room(self, owner: Principal) -> None:
        active = (Campaign.tenant_id == owner.tenant_id, Campaign.status == "active")
        count = self.session.exec(select(sa.func.count()).select_from(Campaign).where(*active)).one()
        if count >= MOST_ACTIVE:
            raise QuotaExceeded("campaigns under way", MOST_ACTIVE)


def check(spec: CampaignSpec) -> None:
    """What can be said of a campaign before anything is asked of the database. Raises InvalidRequest.

    Also PrivacyRefused, for a strategy that sees more than a noisy mean where that is promised.
    """
    strategy = strategy_named(spec.strategy, **spec.strategy_options)
    spec.privacy.check_strategy(needs_each_update=strategy.needs_each_update, control=strategy.local.control)
    if spec.privacy.sampling != "none":
        raise InvalidField("privacy_settings.sampling", "must be none: devices come to rounds by themselves")
    if spec.secure_aggregation:
        check_secure(spec, strategy)
    if spec.criteria.needed < strategy.fewest:
        raise InvalidField("quorum", f"{spec.strategy} takes {strategy.fewest} updates or more")


def ask_for_worker(session: Session, folder: Path, campaign: Campaign) -> None:
    """Have a worker look at a campaign, from the moment this transaction commits."""
    request_worker(session, folder, campaign.id, WORK_KIND, WorkTurn(share=campaign.tenant_id))
