"""Judging: the worker looks into the updates that have come, one by one, and says what becomes of each.

An update counts in the round that trains, also one that was made for a round before it, where devices may
come late: too late is what `Lateness` has let go of when the round began.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlmodel import Session

from tg_workbench.events import Events, UpdateRefused, tenant_subject
from tg_workbench.execution import Fence
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.lateness import Lateness, free_devices
from tg_workbench.federation.rounds.opening import UNUSABLE, Opening
from tg_workbench.federation.rounds.parts import waiting_in
from tg_workbench.federation.rounds.phases import Part, Phase
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.rounds.turns import advance, tell
from tg_workbench.storage import Blobs, Database, LeftBlobs
from tg_workbench.storage.database import now

log = logging.getLogger(__name__)


class Judging:
    """Accepts and rejects updates, for one worker."""

    def __init__(self, database: Database, blobs: Blobs, home: Path, fence: Fence) -> None:
        self.database = database
        self.blobs = blobs
        self.home = home
        self.fence = fence

    def judge_next(self, current: Round, spec: CampaignSpec) -> bool:
        """Accept or reject the update that came first; False when none waits."""
        with self.database.read() as session:
            part = waiting_in(session, current.campaign_id)
            if part is None:
                return False
            joined = session.get_one(Round, part.round_id)
            keys = RoundKeys.of(session, self.home, joined)
        reason: str | None = None
        try:
            Opening(self.database, self.blobs, joined, keys, spec).check(part)
        except UNUSABLE as failure:
            reason = str(failure)
        self._write(part, current, spec, reason)
        return True

    def _write(self, part: Participation, current: Round, spec: CampaignSpec, reason: str | None) -> None:
        """Write down what became of an update; a rejected one is deleted at once."""
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            part = session.get_one(Participation, part.id)
            current = session.get_one(Round, current.id)
            if part.status != Part.SUBMITTED or current.phase != Phase.TRAINING:
                return
            if reason is None:
                part.status, part.counted_in = Part.ACCEPTED, current.id
                session.add(part)
            else:
                reject(session, part, reason, self.blobs)
            if spec.is_asynchronous:
                self._let_go(session, part, current)
            if not advance(session, current, spec, self.blobs):
                tell(session, current)
            self.fence.forgive(session)

    def _let_go(self, session: Session, part: Participation, current: Round) -> None:
        """Its device is free for other rounds at once; the round it joined waits for it no more."""
        free_devices(session, part.round_id)
        if part.round_id != current.id:
            campaign = session.get_one(Campaign, current.campaign_id)
            Lateness(session, campaign, self.blobs).tidy(session.get_one(Round, part.round_id))


def reject(session: Session, part: Participation, reason: str, blobs: Blobs) -> None:
    """Have an update not count, and those who watch over the organisation hear why."""
    log.warning("round %s: the update of %s was rejected: %s", part.round_id, part.device_id, reason)
    round_ = session.get_one(Round, part.round_id)
    refused = UpdateRefused(round_.id, part.device_id, reason)
    Events(session).record(tenant_subject(round_.tenant_id), refused)
    LeftBlobs(session, blobs).forget([part.blob] if part.blob else [])
    part.status, part.reason, part.ended_at = Part.REJECTED, reason, now()
    part.blob = part.counted_in = None
    session.add(part)
