"""A round's turns: what each change of phase writes, whoever makes it, the API or the worker.

Every turn is one transaction with the fact that tells of it: a process that dies has either made it or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.events import Events, RoundEnded, RoundProgressed, RoundStarted, tenant_subject
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.rounds.closing import Closing, begin_exchange
from tg_workbench.federation.rounds.exchange import Exchange, forget_exchange
from tg_workbench.federation.rounds.keys import destroy_keys
from tg_workbench.federation.rounds.left_blobs import LeftBlobs
from tg_workbench.federation.rounds.phases import Counts, Part, Phase, Turn, next_turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage import Blobs
from tg_workbench.storage.database import now


def counts_of(session: Session, round_ids: Iterable[str]) -> dict[str, Counts]:
    """How many devices stand where, of each of these rounds."""
    found: dict[str, dict[str, int]] = {round_id: {} for round_id in round_ids}
    query = (
        sa.select(col(Participation.round_id), col(Participation.status), sa.func.count())
        .where(col(Participation.round_id).in_(found))
        .group_by(col(Participation.round_id), col(Participation.status))
    )
    for round_id, status, count in session.connection().execute(query):
        found[round_id][status] = count
    return {round_id: Counts(**counted) for round_id, counted in found.items()}


def spec_of(session: Session, round_: Round) -> CampaignSpec:
    """What its campaign was asked to be."""
    return CampaignSpec.from_json(session.get_one(Campaign, round_.campaign_id).spec)


def advance(session: Session, round_: Round, spec: CampaignSpec, blobs: Blobs) -> bool:
    """Take the turn that is due; False when none is. The caller holds a writing session."""
    session.flush()
    counts = counts_of(session, [round_.id])[round_.id]
    is_due = round_.due_at is not None and now() >= round_.due_at
    if spec.secure_aggregation and round_.phase == Phase.TRAINING:
        turn = Closing(Exchange(session, round_)).close(spec, is_due=is_due)
    else:
        turn = next_turn(Phase(round_.phase), spec.criteria, counts, is_due=is_due)
    if turn is None:
        return False
    if turn.phase is Phase.FAILED:
        end_round(session, round_, turn, blobs)
        end_campaign(session, session.get_one(Campaign, round_.campaign_id), "failed", turn.reason)
    elif turn.phase == round_.phase:  # the next step of its exchange
        tell(session, round_)
    else:
        enter(session, round_, turn.phase, spec)
    return True


def enter(session: Session, round_: Round, phase: Phase, spec: CampaignSpec) -> None:
    """Have a round be in a phase that is not its end."""
    moment = now()
    round_.phase = phase
    round_.due_at = None
    if phase is Phase.RECRUITING:
        round_.due_at = moment + spec.recruiting_seconds
    elif phase is Phase.TRAINING:
        round_.due_at, round_.training_at = moment + spec.training_seconds, moment
        _set_devices(session, round_, current_round_id=round_.id, current_round=round_.number)
        if spec.secure_aggregation:
            begin_exchange(session, round_, spec)
    session.add(round_)
    tell(session, round_)


def end_round(session: Session, round_: Round, turn: Turn, blobs: Blobs) -> None:
    """End a round: its keys are destroyed, what was sent for it is deleted, its devices are free."""
    moment = now()
    round_.phase, round_.reason, round_.due_at, round_.ended_at = turn.phase, turn.reason, None, moment
    destroy_keys(round_)
    forget_exchange(session, round_)
    _set_devices(session, round_, current_round_id=None, current_round=None)
    gone = [blob for blob in (round_.download_blob,) if blob]
    round_.download_blob = None
    for part in session.exec(select(Participation).where(Participation.round_id == round_.id)):
        if part.status == Part.ACCEPTED and turn.phase is Phase.COMPLETED:
            _credit(session, round_, part)
        elif part.status in (Part.JOINED, Part.SUBMITTED):
            part.status, part.reason = Part.DROPPED, "the round ended before its update was accepted"
        if part.blob is not None:
            gone.append(part.blob)
        part.blob, part.ended_at = None, part.ended_at or moment
        session.add(part)
    session.add(round_)
    LeftBlobs(session, blobs).forget(gone)
    tell(session, round_)


def end_campaign(session: Session, campaign: Campaign, status: str, reason: str | None = None) -> None:
    """Have a campaign be over, whoever ends it: no seed of its noise outlives it."""
    Fleets(session).end_tree(campaign.id)
    campaign.status, campaign.reason, campaign.ended_at = status, reason, now()
    session.add(campaign)
    session.flush()


def tell(session: Session, round_: Round) -> None:
    """State the fact of how a round stands, for those who listen here and for those outside."""
    session.flush()
    counts = counts_of(session, [round_.id])[round_.id]
    about: dict[str, Any] = {
        "round_id": round_.id,
        "campaign_id": round_.campaign_id,
        "number": round_.number,
    }
    events, outbox = Events(session), Outbox(session)
    subject, told = tenant_subject(round_.tenant_id), {**about, "organization_id": round_.tenant_id}
    match Phase(round_.phase):
        case Phase.RECRUITING:
            target, version = spec_of(session, round_).criteria.target, version_name(round_.base_version)
            fact = RoundStarted(**about, model_version=version, target_participants=target)
            events.record(subject, fact)
            outbox.put(round_.tenant_id, WebhookEvent.ROUND_STARTED, {**told, "target_participants": target})
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


def _set_devices(session: Session, round_: Round, **values: object) -> None:
    members = select(Participation.device_id).where(
        Participation.round_id == round_.id, Participation.status != Part.DROPPED
    )
    session.connection().execute(sa.update(Device).where(col(Device.id).in_(members)).values(**values))


def _credit(session: Session, round_: Round, part: Participation) -> None:
    """A round that a device has completed."""
    took = max(0.0, (part.submitted_at or now()) - (round_.training_at or now()))
    session.connection().execute(
        sa.update(Device)
        .where(col(Device.id) == part.device_id)
        .values(
            rounds_completed=col(Device.rounds_completed) + 1,
            training_seconds=col(Device.training_seconds) + took,
        )
    )
