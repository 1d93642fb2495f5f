"""A round's turns: what each change of phase writes, whoever makes it, the API or the worker.

Every turn is one transaction with the fact that tells of it: a process that dies has either made it or not.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.events import Events, RoundEnded, RoundProgressed, RoundStarted, tenant_subject
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.rounds.closing import Closing, begin_exchange
from tg_workbench.federation.rounds.exchange import Exchange, forget_exchange
from tg_workbench.federation.rounds.lateness import Lateness, free_devices, is_needed, let_go
from tg_workbench.federation.rounds.parts import counts_of, parts_in, waiting_in
from tg_workbench.federation.rounds.phases import OPEN, Part, Phase, Turn, next_turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage import Blobs, LeftBlobs
from tg_workbench.storage.database import now

MOST_FAILURES = 3
"""How many rounds in a row may have too few devices before their campaign is over."""


def spec_of(session: Session, round_: Round) -> CampaignSpec:
    """What its campaign was asked to be."""
    return CampaignSpec.from_json(session.get_one(Campaign, round_.campaign_id).spec)


def advance(session: Session, round_: Round, spec: CampaignSpec, blobs: Blobs) -> bool:
    """Take the turn that is due; False when none is. The caller holds a writing session."""
    session.flush()
    turn = _turn_of(session, round_, spec)
    if turn is None:
        return False
    if turn.phase is Phase.FAILED:
        fail_round(session, round_, turn.reason or "", blobs)
    elif turn.phase == round_.phase:  # the next step of its exchange
        tell(session, round_)
    else:
        enter(session, round_, turn.phase, spec)
    return True


def enter(session: Session, round_: Round, phase: Phase, spec: CampaignSpec) -> None:
    """Have a round be in a phase that is not its end."""
    moment, is_new = now(), round_.phase == Phase.PREPARING
    round_.phase = phase
    round_.due_at = None
    if phase is Phase.RECRUITING:
        round_.due_at = moment + spec.recruiting_seconds
    elif phase is Phase.TRAINING:
        round_.due_at, round_.training_at = moment + spec.training_seconds, moment
        _occupy_devices(session, round_)
        if spec.secure_aggregation:
            begin_exchange(session, round_, spec)
    session.add(round_)
    if is_new:
        _tell_of_new(session, round_, spec)
    else:
        tell(session, round_)


def end_round(session: Session, round_: Round, turn: Turn, blobs: Blobs) -> None:
    """End a round: its keys are destroyed, what was sent for it is deleted, its devices are free.

    Of an asynchronous campaign, those who have not come yet may still come: see `Lateness`.
    """
    moment = now()
    round_.phase, round_.reason, round_.due_at, round_.ended_at = turn.phase, turn.reason, None, moment
    forget_exchange(session, round_)
    waits = turn.phase is Phase.COMPLETED and spec_of(session, round_).is_asynchronous
    gone, joined_in = [], {round_.id}
    for part in parts_in(session, round_):
        if waits and part.status in OPEN:
            continue
        if part.status == Part.ACCEPTED and turn.phase is Phase.COMPLETED:
            _credit(session, round_, part)
        elif part.status in OPEN:
            part.status, part.reason = Part.DROPPED, "the round ended before its update was accepted"
        if part.blob is not None:
            gone.append(part.blob)
        part.blob, part.ended_at = None, part.ended_at or moment
        session.add(part)
        joined_in.add(part.round_id)
    session.add(round_)
    LeftBlobs(session, blobs).forget(gone)
    for round_id in sorted(joined_in):
        free_devices(session, round_id)
        joined, is_over = session.get_one(Round, round_id), round_id == round_.id and not waits
        if is_over or not is_needed(session, joined):
            let_go(session, joined, blobs)
    tell(session, round_)


def fail_round(session: Session, round_: Round, reason: str, blobs: Blobs) -> None:
    """End a round that has too few devices. In a campaign of many it is tried again, but not for ever."""
    end_round(session, round_, Turn(Phase.FAILED, reason), blobs)
    campaign = session.get_one(Campaign, round_.campaign_id)
    newest = select(Round.phase).where(Round.campaign_id == campaign.id).order_by(col(Round.number).desc())
    phases = list(session.exec(newest.limit(MOST_FAILURES)))
    if spec_of(session, round_).rounds == 1 or phases == [Phase.FAILED] * MOST_FAILURES:
        end_campaign(session, campaign, "failed", blobs, reason)
    else:
        new_round(session, campaign)


def new_round(session: Session, campaign: Campaign) -> Round:
    """The next round of a campaign, to be prepared. Its number is that of the try: some may have failed."""
    session.flush()
    newest = select(sa.func.max(Round.number)).where(Round.campaign_id == campaign.id)
    round_ = Round(
        id=f"round_{uuid.uuid4().hex}",
        campaign_id=campaign.id,
        tenant_id=campaign.tenant_id,
        number=1 + (session.exec(newest).one() or 0),
        phase=Phase.PREPARING,
        base_version=campaign.model_version,
    )
    session.add(round_)
    session.flush()
    return round_


def end_campaign(
    session: Session, campaign: Campaign, status: str, blobs: Blobs, reason: str | None = None
) -> None:
    """Have a campaign be over, whoever ends it: nobody is waited for, no seed of noise outlives it."""
    campaign.status, campaign.reason, campaign.ended_at = status, reason, now()
    session.add(campaign)
    Lateness(session, campaign, blobs).end("its campaign has ended")
    Fleets(session).end_tree(campaign.id)
    session.flush()


def tell(session: Session, round_: Round) -> None:
    """State the fact of how a round stands, for those who listen here and for those outside."""
    session.flush()
    counts, about = counts_of(session, [round_.id])[round_.id], _about(round_)
    events, outbox = Events(session), Outbox(session)
    subject, told = tenant_subject(round_.tenant_id), {**about, "organization_id": round_.tenant_id}
    match Phase(round_.phase):
        case Phase.COMPLETED | Phase.FAILED:
            version, devices = version_name(newest_version(round_)), counts.accepted
            ended = RoundEnded(**about, status=round_.phase, model_version=version, completed_devices=devices)
            events.record(subject, ended)
            outbox.put(
                round_.tenant_id,
                WebhookEvent.ROUND_COMPLETED,
                {**told, "status": round_.phase, "model_version": version, "completed_devices": devices},
            )
        case _:
            told_so_far = RoundProgressed(
                **about,
                phase=round_.phase,
                completed_devices=counts.accepted,
                total_devices=counts.members,
            )
            events.record(subject, told_so_far)


def topic_of(tenant_id: str) -> str:
    """What is rung for when an organisation's rounds have changed."""
    return f"rounds-of:{tenant_id}"


def version_name(version: int) -> str:
    """What a version of a model is called: `v3`."""
    return f"v{version}"


def newest_version(round_: Round) -> int:
    """The version that a round has made, or else started from."""
    return round_.base_version if round_.result_version is None else round_.result_version


def _turn_of(session: Session, round_: Round, spec: CampaignSpec) -> Turn | None:
    is_due = round_.due_at is not None and now() >= round_.due_at
    if spec.secure_aggregation and round_.phase == Phase.TRAINING:
        return Closing(Exchange(session, round_)).close(spec, is_due=is_due)
    counts = counts_of(session, [round_.id])[round_.id]
    if spec.is_asynchronous and waiting_in(session, round_.campaign_id) is not None:
        counts = replace(counts, submitted=max(1, counts.submitted))  # it may be for a round before this one
    return next_turn(Phase(round_.phase), spec.criteria, counts, is_due=is_due, is_open=spec.is_asynchronous)


def _about(round_: Round) -> dict[str, Any]:
    return {"round_id": round_.id, "campaign_id": round_.campaign_id, "number": round_.number}


def _tell_of_new(session: Session, round_: Round, spec: CampaignSpec) -> None:
    """State the fact that devices may join a round."""
    session.flush()
    target, version, about = spec.criteria.target, version_name(round_.base_version), _about(round_)
    fact = RoundStarted(**about, model_version=version, target_participants=target)
    Events(session).record(tenant_subject(round_.tenant_id), fact)
    told = {**about, "organization_id": round_.tenant_id, "target_participants": target}
    Outbox(session).put(round_.tenant_id, WebhookEvent.ROUND_STARTED, told)


def _occupy_devices(session: Session, round_: Round) -> None:
    members = select(Participation.device_id).where(
        Participation.round_id == round_.id, Participation.status != Part.DROPPED
    )
    busy = sa.update(Device).where(col(Device.id).in_(members))
    session.connection().execute(busy.values(current_round_id=round_.id, current_round=round_.number))


def _credit(session: Session, round_: Round, part: Participation) -> None:
    """A round that a device has completed. It has trained since its round did, or since it joined that."""
    began = max(part.joined_at, round_.training_at or 0.0) if part.round_id == round_.id else part.joined_at
    took = max(0.0, (part.submitted_at or now()) - began)
    session.connection().execute(
        sa.update(Device)
        .where(col(Device.id) == part.device_id)
        .values(
            rounds_completed=col(Device.rounds_completed) + 1,
            training_seconds=col(Device.training_seconds) + took,
        )
    )
