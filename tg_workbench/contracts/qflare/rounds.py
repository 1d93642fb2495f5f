"""QFLARE's rounds: S2-10 … S2-14. People start and follow them, devices join and submit."""

from __future__ import annotations

from fastapi import APIRouter

from tg_workbench.contracts.joining import TheJoinDesk
from tg_workbench.contracts.providers import (
    IdempotencyKey,
    RoundId,
    RoundsRoom,
    SignedIn,
    Wait,
)
from tg_workbench.contracts.qflare import accounts, round_schemas
from tg_workbench.contracts.qflare.errors import QFLARE_FAILURES, QflareRoute
from tg_workbench.contracts.route import needs
from tg_workbench.contracts.starting import TheStartDesk
from tg_workbench.contracts.submitting import TheSubmissionDesk
from tg_workbench.federation.rounds import Counts
from tg_workbench.identity import DEVICE

router = APIRouter(
    prefix="/api/v1/fl/rounds", route_class=QflareRoute, tags=["QFLARE"], responses=QFLARE_FAILURES
)


@router.get("")
async def list_rounds(
    owner: SignedIn, rounds: RoundsRoom, page: accounts.Page = 1, size: accounts.Size = 20
) -> round_schemas.RoundList:
    """List training rounds, the newest first."""
    found, _ = rounds.list_page(owner, limit=size, offset=(page - 1) * size)
    counts, campaigns = rounds.counts(found), rounds.campaigns(found)
    shown = [round_schemas.RoundView.of(each, campaigns[each.campaign_id], counts[each.id]) for each in found]
    return round_schemas.RoundList(rounds=shown)


@router.post("", status_code=201)
@needs("train")
async def start_round(
    body: round_schemas.StartRound,
    owner: SignedIn,
    desk: TheStartDesk,
    key: IdempotencyKey = None,
) -> round_schemas.RoundView:
    """Start a new training round; with `rounds`, the first of a campaign."""
    campaign, first = await desk.start(body.as_spec(), key)
    return round_schemas.RoundView.of(first, campaign, Counts())


@router.get("/{round_id}")
async def get_round(round_id: RoundId, owner: SignedIn, rounds: RoundsRoom) -> round_schemas.RoundView:
    """Get training round details."""
    found = rounds.get(owner, round_id)
    campaign = rounds.campaigns([found])[found.campaign_id]
    return round_schemas.RoundView.of(found, campaign, rounds.counts([found])[found.id])


@router.post("/{round_id}/join")
@needs(DEVICE)
async def join_round(round_id: RoundId, desk: TheJoinDesk, wait: Wait = 0) -> round_schemas.Joined:
    """Join a training round (device endpoint). Ask again until the answer holds the assignment.

    With `wait` the answer is held back for up to so many seconds, until the round trains.
    """
    found = await desk.join(round_id, wait)
    view = round_schemas.RoundView.of(found.round_, found.campaign, found.counts)
    part = round_schemas.ParticipationView.of(found.part)
    return round_schemas.Joined(**view.model_dump(), participation=part, assignment=found.assignment)


@router.post("/{round_id}/submit")
@needs(DEVICE)
async def submit_update(round_id: RoundId, desk: TheSubmissionDesk) -> round_schemas.Submitted:
    """Submit training results: an envelope as application/octet-stream, or as JSON (device endpoint).

    The same envelope again gets the same receipt.
    """
    return round_schemas.Submitted.of(await desk.take(round_id))
