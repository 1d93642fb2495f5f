"""Lateness: devices of an asynchronous campaign may hand in after their round has made its model.

A completed round keeps its keys and what its devices start from while one of them may still hand in, and no
longer than `max_staleness` versions of the model: then they are destroyed, and who has not come is dropped.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.rounds.keys import destroy_keys
from tg_workbench.federation.rounds.phases import OPEN, Part, Phase
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round, UpdateUpload
from tg_workbench.federation.rounds.unfinished import forget_unfinished
from tg_workbench.storage import Blobs, LeftBlobs
from tg_workbench.storage.database import now


class Lateness:
    """The rounds of one campaign that are completed and still waited for. The caller holds a session."""

    def __init__(self, session: Session, campaign: Campaign, blobs: Blobs) -> None:
        self.session = session
        self.campaign = campaign
        self.blobs = blobs

    def expire(self, max_staleness: int) -> None:
        """Wait no longer for what would be too late for the campaign's newest model."""
        for round_ in self._rounds():
            behind = self.campaign.model_version - round_.base_version
            if behind > max_staleness:
                told = f"{behind} models were made meanwhile, and at most {max_staleness} may be"
                self._close(round_, f"it is too late: {told}")
            else:
                self.tidy(round_)

    def end(self, reason: str) -> None:
        """Wait for nobody any more: the campaign is over."""
        for round_ in self._rounds():
            self._close(round_, reason)

    def tidy(self, round_: Round) -> None:
        """Destroy the keys of a completed round once nothing that they open can come, or is still needed."""
        if not is_needed(self.session, round_):
            let_go(self.session, round_, self.blobs)

    def _rounds(self) -> list[Round]:
        self.session.flush()
        query = select(Round).where(
            Round.campaign_id == self.campaign.id,
            Round.phase == Phase.COMPLETED,
            col(Round.sealed_keys).is_not(None),
        )
        return list(self.session.exec(query))

    def _close(self, round_: Round, reason: str) -> None:
        still_open = (Participation.round_id == round_.id, col(Participation.status).in_(OPEN))
        for part in list(self.session.exec(select(Participation).where(*still_open))):
            drop(self.session, part, reason, self.blobs)
        free_devices(self.session, round_.id)
        let_go(self.session, round_, self.blobs)


def is_served(round_: Round, spec: CampaignSpec) -> bool:
    """Whether the devices of a round are given its model: while it trains, or as long as they may be late."""
    return round_.phase == Phase.TRAINING or (spec.is_asynchronous and round_.sealed_keys is not None)


def accepts_updates(round_: Round, spec: CampaignSpec) -> bool:
    """Whether a device that has joined a round may hand in now."""
    is_in_time = spec.is_asynchronous or round_.due_at is None or now() < round_.due_at
    return is_in_time and is_served(round_, spec)


def why_not(session: Session, device: Device, round_: Round) -> str | None:
    """Why a device may not join a round of an asynchronous campaign beside its other parts; None: it may.

    It has one open part in a campaign, and one update in a model: who is quick is not heard twice.
    """
    mine = (
        select(Participation)
        .join(Round, col(Round.id) == col(Participation.round_id))
        .where(Participation.device_id == device.id, Round.campaign_id == round_.campaign_id)
    )
    still_open = session.exec(mine.where(col(Participation.status).in_(OPEN)).limit(1)).first()
    if still_open is not None:
        return f"this device takes part in {still_open.round_id} still: it hands in for that round first"
    if session.exec(mine.where(Participation.counted_in == round_.id).limit(1)).first() is not None:
        return "an update of this device goes into this round's model already: it joins the next round"
    return None


def drop(session: Session, part: Participation, reason: str, blobs: Blobs) -> None:
    """Have a part come to nothing. What was sent for it is deleted."""
    LeftBlobs(session, blobs).forget([part.blob] if part.blob else [])
    part.status, part.reason, part.ended_at = Part.DROPPED, reason, now()
    part.blob = part.counted_in = None
    session.add(part)


def is_needed(session: Session, round_: Round) -> bool:
    """Whether a round's keys will have something to open: what may still come, or is not yet in a model."""
    session.flush()
    to_open = sa.or_(col(Participation.status) == Part.JOINED, col(Participation.blob).is_not(None))
    query = select(Participation.id).where(Participation.round_id == round_.id, to_open)
    return session.exec(query.limit(1)).first() is not None


def let_go(session: Session, round_: Round, blobs: Blobs) -> None:
    """Destroy a round's keys, and delete what its devices start from and what was half sent."""
    destroy_keys(round_)
    forget_unfinished(session, blobs, col(UpdateUpload.round_id) == round_.id)
    LeftBlobs(session, blobs).forget([round_.download_blob] if round_.download_blob else [])
    round_.download_blob = None
    session.add(round_)


def free_devices(session: Session, round_id: str) -> None:
    """Whoever has done their part in a round trains in it no more."""
    session.flush()
    still_open = select(Participation.device_id).where(
        Participation.round_id == round_id, col(Participation.status).in_(OPEN)
    )
    free = sa.update(Device).where(
        col(Device.current_round_id) == round_id, col(Device.id).not_in(still_open)
    )
    session.connection().execute(free.values(current_round_id=None, current_round=None))
