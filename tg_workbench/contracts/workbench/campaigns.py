"""What QFLARE's document has no words for: campaigns, who took part in a round, and the model of a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.downloads import Download
from tg_workbench.contracts.providers import (
    CampaignId,
    CampaignsRoom,
    Limit,
    Offset,
    RoundId,
    RoundsRoom,
    SignedIn,
    SignedInDevice,
)
from tg_workbench.contracts.qflare.round_schemas import ParticipationView, RoundView
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.federation.rounds import Campaign
from tg_workbench.federation.rounds.turns import version_name
from tg_workbench.identity import DEVICE

router = APIRouter(
    prefix="/workbench/v1/federation", route_class=WorkbenchRoute, tags=["Federation"], responses=FAILURES
)
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The sealed file."}
}


class CampaignView(BaseModel):
    """A model that devices learn together."""

    id: str
    name: str
    status: str
    reason: str | None
    architecture: str
    strategy: str
    rounds: int
    rounds_done: int
    model_version: str
    model_digest: str | None
    model_id: str | None
    created_at: str
    ended_at: str | None
    config: dict[str, Any]

    @classmethod
    def of(cls, campaign: Campaign) -> CampaignView:
        """A row, as it is shown."""
        spec = campaign.spec
        return cls(
            id=campaign.id,
            name=campaign.name,
            status=campaign.status,
            reason=campaign.reason,
            architecture=spec["architecture"],
            strategy=spec["strategy"],
            rounds=spec["rounds"],
            rounds_done=campaign.rounds_done,
            model_version=version_name(campaign.model_version),
            model_digest=campaign.model_digest,
            model_id=campaign.model_id,
            created_at=utc(campaign.created_at),
            ended_at=None if campaign.ended_at is None else utc(campaign.ended_at),
            config=spec,
        )


class CampaignList(BaseModel):
    """The organisation's campaigns, the newest first."""

    campaigns: Sequence[CampaignView]
    total: int


class CampaignRounds(CampaignView):
    """A campaign with the newest of its rounds, in order; `rounds_begun` is how many it has had."""

    history: Sequence[RoundView]
    rounds_begun: int


class Participations(BaseModel):
    """Every device's part in a round, in the order they joined. A part is in the round that it counts in."""

    participations: Sequence[ParticipationView]


@router.get("/campaigns")
async def list_campaigns(
    owner: SignedIn, campaigns: CampaignsRoom, limit: Limit = 50, offset: Offset = 0
) -> CampaignList:
    """The campaigns of your organisation, the newest first."""
    found, total = campaigns.list_page(owner, limit=limit, offset=offset)
    return CampaignList(campaigns=[CampaignView.of(each) for each in found], total=total)


@router.get("/campaigns/{campaign_id}")
async def get_campaign(
    campaign_id: CampaignId,
    owner: SignedIn,
    campaigns: CampaignsRoom,
    rounds: RoundsRoom,
    limit: Limit = 50,
    offset: Offset = 0,
) -> CampaignRounds:
    """A campaign, and how its newest rounds went, in order; `offset` leaves out so many of the newest."""
    campaign = campaigns.get(owner, campaign_id)
    history, total = campaigns.list_rounds(campaign, limit=limit, offset=offset)
    counts = rounds.counts(history)
    shown = [RoundView.of(each, campaign, counts[each.id]) for each in history]
    return CampaignRounds(**CampaignView.of(campaign).model_dump(), history=shown, rounds_begun=total)


@router.delete("/campaigns/{campaign_id}")
async def cancel_campaign(campaign_id: CampaignId, owner: SignedIn, campaigns: CampaignsRoom) -> CampaignView:
    """End a campaign now, your own or as an administrator. What it has come to so far stays."""
    return CampaignView.of(campaigns.cancel(owner, campaign_id))


@router.get("/rounds/{round_id}/participations")
async def list_participations(round_id: RoundId, owner: SignedIn, rounds: RoundsRoom) -> Participations:
    """Which devices take part in a round, and what became of their updates."""
    found = rounds.get(owner, round_id)
    tells = not rounds.campaigns([found])[found.campaign_id].spec["privacy"]["differential_privacy"]
    parts = rounds.participations(found)
    return Participations(participations=[ParticipationView.of(part, tells=tells) for part in parts])


@router.get("/rounds/{round_id}/model", response_class=Response, responses=FILE)
@needs(DEVICE)
async def fetch_model(
    round_id: RoundId, device: SignedInDevice, rounds: RoundsRoom, request: Request
) -> Response:
    """The model that a round starts from, sealed: its key is in the device's assignment. Takes ranges."""
    digest = rounds.download_of(device.device, round_id)
    return Download(rounds.blobs.path(digest), digest, f"{round_id}.sealed").check(request)
