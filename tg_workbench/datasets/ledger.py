"""The ledger: every noisy release, written before its noise is drawn.

A dataset's ε composes all events of its population: of every dataset that is about the same people. A fleet
of devices is a population too, under its own id. A model's ε composes the events on its lineage: its own, and
those of the clients whose checkpoints it was loaded from, up to the event each checkpoint was saved at. That
set is a map `{client: newest event}`; joining two lineages keeps the newer event of each client, so nothing
counts twice and nothing is ever lowered.

Steps on rows that a caller sent with ids are counted by participant: who was in an event stands in the event,
as a row of keys, and such events are in no running count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.tables import Charge, Dataset, LedgerCount, LedgerEvent
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

KEY_BYTES = 8
"""How long the key of a participant is. `engine.identities` makes them so (a test compares)."""


class Kind(NamedTuple):
    """What the accountant needs to know of a step: the members of `privacy.GaussianStep`, in its order."""

    noise_multiplier: float
    sample_rate: float
    truncated_batch_size: int = 0
    dataset_size: int = 0


Counts = Mapping[Kind, int]
Lineage = Mapping[str, int]

_EVENT_COLUMNS = [name for name in LedgerEvent.model_fields if name != "id"]
_INSERT = Statement(
    sa.insert(LedgerEvent)
    .values({name: sa.bindparam(name) for name in _EVENT_COLUMNS})
    .returning(col(LedgerEvent.id))
)
_COUNTS = Statement(
    sa.select(
        col(LedgerCount.noise_multiplier),
        col(LedgerCount.sample_rate),
        col(LedgerCount.truncated_batch_size),
        col(LedgerCount.dataset_size),
        col(LedgerCount.count).label("steps"),
    ).where(col(LedgerCount.subject) == sa.bindparam("of"))
)
_ADD_ONE = Statement(
    sa.update(LedgerCount)
    .where(
        col(LedgerCount.subject) == sa.bindparam("of"),
        col(LedgerCount.noise_multiplier) == sa.bindparam("noise"),
        col(LedgerCount.sample_rate) == sa.bindparam("rate"),
        col(LedgerCount.truncated_batch_size) == sa.bindparam("most"),
        col(LedgerCount.dataset_size) == sa.bindparam("size"),
    )
    .values(count=col(LedgerCount.count) + 1)
)
_SET_SPENT = Statement(
    sa.update(Dataset)
    .where(col(Dataset.population) == sa.bindparam("population"))
    .values(
        spent_epsilon=sa.case(
            (col(Dataset.spent_epsilon) < sa.bindparam("spent"), sa.bindparam("spent")),
            else_=col(Dataset.spent_epsilon),
        )
    )
)


class Ledger:
    """Reads and appends. There is no method that removes."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def of_subject(self, subject: str) -> dict[Kind, int]:
        """How often each kind of step was taken on a population, or by a client."""
        rows = _COUNTS.rows(self.session, of=subject)
        return {Kind(*row[:-1]): row.steps for row in rows}

    def of_lineage(self, lineage: Lineage, without: str) -> dict[Kind, int]:
        """How often each kind of step was taken on a model's way here, the client `without` left out."""
        total: dict[Kind, int] = {}
        kind = [col(getattr(LedgerEvent, name)) for name in Kind._fields]
        for client_id, newest in lineage.items():
            if client_id == without:
                continue
            rows = self.session.connection().execute(
                sa.select(*kind, sa.func.count())
                .where(
                    col(LedgerEvent.client_id) == client_id,
                    col(LedgerEvent.id) <= newest,
                    col(LedgerEvent.participants).is_(None),
                )
                .group_by(*kind)
            )
            for *members, count in rows:
                total[Kind(*members)] = total.get(Kind(*members), 0) + count
        return total

    def participations(self, client_id: str, newest: int | None = None) -> Iterator[tuple[float, bytes]]:
        """Noise and participants of each event of a client that has them, up to the event `newest`."""
        query = sa.select(col(LedgerEvent.noise_multiplier), col(LedgerEvent.participants)).where(
            col(LedgerEvent.client_id) == client_id, col(LedgerEvent.participants).is_not(None)
        )
        if newest is not None:
            query = query.where(col(LedgerEvent.id) <= newest)
        for noise, participants in self.session.connection().execute(query):
            yield noise, participants or b""

    def append(
        self, charge: Charge, population: str | None = None, population_epsilon_after: float | None = None
    ) -> int:
        """Write one event and return its id. `population`: that of the charge's dataset.

        The caller holds the writing transaction and has checked the caps.
        """
        event_id = _INSERT.value(self.session, **charge.model_dump(), at=now())
        if charge.participants is None:
            for subject in filter(None, (charge.client_id, population)):
                self._count(subject, Kind(*charge.kind))
        if population is not None and population_epsilon_after is not None:
            _SET_SPENT.change(self.session, population=population, spent=population_epsilon_after)
        return int(event_id)

    def newest(self, client_id: str) -> int:
        """The id of the client's newest event, 0 when it has none."""
        query = select(sa.func.max(LedgerEvent.id)).where(LedgerEvent.client_id == client_id)
        return self.session.exec(query).one() or 0

    def page(
        self, *, population: str | None = None, client_id: str | None = None, after: int = 0, limit: int = 100
    ) -> list[LedgerEvent]:
        """Events of a population or a client in the order they were written."""
        query = (
            select(LedgerEvent).where(col(LedgerEvent.id) > after).order_by(col(LedgerEvent.id)).limit(limit)
        )
        if population is not None:
            members = select(Dataset.id).where(Dataset.population == population)
            mine = col(LedgerEvent.dataset_id) == population  # a population that is no dataset's: a fleet
            query = query.where(sa.or_(col(LedgerEvent.dataset_id).in_(members), mine))
        if client_id is not None:
            query = query.where(LedgerEvent.client_id == client_id)
        return list(self.session.exec(query))

    def _count(self, subject: str, kind: Kind) -> None:
        noise, rate, most, size = kind
        if not _ADD_ONE.change(self.session, of=subject, noise=noise, rate=rate, most=most, size=size):
            self.session.add(LedgerCount(subject=subject, **kind._asdict(), count=1))
            self.session.flush()


def join(first: Lineage, second: Lineage) -> dict[str, int]:
    """The lineage of a model made from both."""
    return {key: max(first.get(key, 0), second.get(key, 0)) for key in {*first, *second}}
