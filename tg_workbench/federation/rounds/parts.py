"""Parts: in which round a device's part counts. That is where its update goes, or else the round it joined.

So each part counts in one round, and the counts of a campaign's rounds add up to all parts there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.federation.rounds.phases import Counts, Part, Phase
from tg_workbench.federation.rounds.tables import Participation, Round


def counts_in(round_ids: Collection[str]) -> sa.ColumnElement[bool]:
    """Whether a part counts in one of these rounds."""
    counted, joined = col(Participation.counted_in), col(Participation.round_id)
    return sa.or_(counted.in_(round_ids), sa.and_(counted.is_(None), joined.in_(round_ids)))


def where_it_counts() -> sa.ColumnElement[str]:
    """The id of the round that a part counts in."""
    return sa.func.coalesce(col(Participation.counted_in), col(Participation.round_id))


def counts_of(session: Session, round_ids: Iterable[str]) -> dict[str, Counts]:
    """How many devices stand where, of each of these rounds."""
    found: dict[str, dict[str, int]] = {round_id: {} for round_id in round_ids}
    query = (
        sa.select(where_it_counts(), col(Participation.status), sa.func.count())
        .where(counts_in(found.keys()))
        .group_by(where_it_counts(), col(Participation.status))
    )
    for round_id, status, count in session.connection().execute(query):
        found[round_id][status] = count
    return {round_id: Counts(**counted) for round_id, counted in found.items()}


def parts_in(session: Session, round_: Round) -> list[Participation]:
    """The parts that count in a round, in the order they joined."""
    query = select(Participation).where(counts_in([round_.id])).order_by(col(Participation.id))
    return list(session.exec(query))


def accepted_in(session: Session, round_: Round) -> list[Participation]:
    """The parts whose updates count, always in the same order: so the sum is the same to the last bit."""
    query = select(Participation).where(
        Participation.counted_in == round_.id, Participation.status == Part.ACCEPTED
    )
    return list(session.exec(query.order_by(Participation.device_id)))


def last_counted(session: Session, campaign_id: str, device_id: str) -> str | None:
    """The round that a device's update was for that went last into a model of a campaign; None: none did."""
    query = (
        select(Participation.round_id)
        .join(Round, col(Round.id) == col(Participation.counted_in))
        .where(Round.campaign_id == campaign_id, Round.phase == Phase.COMPLETED)
        .where(Participation.device_id == device_id, Participation.status == Part.ACCEPTED)
        .order_by(col(Round.number).desc())
    )
    return session.exec(query.limit(1)).first()


def waiting_in(session: Session, campaign_id: str) -> Participation | None:
    """The part whose update came first and has not been looked into: for this round, or for one before."""
    query = (
        select(Participation)
        .join(Round, col(Round.id) == col(Participation.round_id))
        .where(Round.campaign_id == campaign_id, Participation.status == Part.SUBMITTED)
        .order_by(col(Participation.submitted_at), col(Participation.id))
    )
    return session.exec(query.limit(1)).first()
