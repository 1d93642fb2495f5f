"""Places: how many of the devices that a round of an asynchronous campaign takes at most are there now.

Whoever has handed in has a place, and whoever has joined has one for as long as it gives signs of life: one
that joins and dies stands in nobody's way. Its part stays open. Should it come back, its update counts as any
other: no model is made of more than `target_participants`, however many hand in.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.federation.devices.devices import MISSED_INTERVALS
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.rounds.parts import counts_in
from tg_workbench.federation.rounds.phases import Part
from tg_workbench.federation.rounds.tables import Participation, Round
from tg_workbench.storage.database import now


def places_taken(session: Session, round_: Round) -> int:
    """How many places of a round are taken now."""
    session.flush()
    patience = MISSED_INTERVALS * col(Device.update_interval)
    is_alive = sa.or_(col(Device.is_online), col(Participation.joined_at) + patience >= now())
    has_come = col(Participation.status).in_((Part.SUBMITTED, Part.ACCEPTED))
    query = (
        select(sa.func.count())
        .select_from(Participation)
        .join(Device, col(Device.id) == col(Participation.device_id))
        .where(counts_in([round_.id]))
        .where(sa.or_(has_come, sa.and_(col(Participation.status) == Part.JOINED, is_alive)))
    )
    return session.exec(query).one()
