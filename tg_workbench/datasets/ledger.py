"""The ledger: every noisy release, written before its noise is drawn.

A dataset's ε composes all events of its population: of every dataset that is about the same people. A model's
ε composes the events on its lineage: its own, and those of the clients whose checkpoints it was loaded from,
up to the event each checkpoint was saved at. That set is a map `{client: newest event}`; joining two lineages
keeps the newer event of each client, so nothing counts twice and nothing is ever lowered.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.tables import Charge, Dataset, LedgerCount, LedgerEvent
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

Kind = tuple[float, float]
"""(noise_multiplier, sample_rate) of a step."""
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
        col(LedgerCount.count).label("steps"),
    ).where(col(LedgerCount.subject) == sa.bindparam("of"))
)
_ADD_ONE = Statement(
    sa.update(LedgerCount)
    .where(
        col(LedgerCount.subject) == sa.bindparam("of"),
        col(LedgerCount.noise_multiplier) == sa.bindparam("noise"),
        col(LedgerCount.sample_rate) == sa.bindparam("rate"),
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
        counts: dict[Kind, int] = {}
        for row in _COUNTS.rows(self.session, of=subject):
            counts[row.noise_multiplier, row.sample_rate] = row.steps
        return counts

    def of_lineage(self, lineage: Lineage, without: str) -> dict[Kind, int]:
        """How often each kind of step was taken on a model's way here, the client `without` left out."""
        total: dict[Kind, int] = {}
        for client_id, newest in lineage.items():
            if client_id == without:
                continue
            rows = self.session.connection().execute(
                sa.select(LedgerEvent.noise_multiplier, LedgerEvent.sample_rate, sa.func.count())  # type: ignore[call-overload]
                .where(LedgerEvent.client_id == client_id, col(LedgerEvent.id) <= newest)
                .group_by(LedgerEvent.noise_multiplier, LedgerEvent.sample_rate)
            )
            for sigma, rate, count in rows:
                total[sigma, rate] = total.get((sigma, rate), 0) + count
        return total

    def append(
        self, charge: Charge, population: str | None = None, population_epsilon_after: float | None = None
    ) -> int:
        """Write one event and return its id. `population`: that of the charge's dataset.

        The caller holds the writing transaction and has checked the caps.
        """
        event_id = _INSERT.value(self.session, **charge.model_dump(), at=now())
        for subject in filter(None, (charge.client_id, population)):
            self._count(subject, charge.kind)
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
            query = query.where(col(LedgerEvent.dataset_id).in_(members))
        if client_id is not None:
            query = query.where(LedgerEvent.client_id == client_id)
        return list(self.session.exec(query))

    def _count(self, subject: str, kind: Kind) -> None:
        if not _ADD_ONE.change(self.session, of=subject, noise=kind[0], rate=kind[1]):
            first = LedgerCount(subject=subject, noise_multiplier=kind[0], sample_rate=kind[1], count=1)
            self.session.add(first)
            self.session.flush()


def join(first: Lineage, second: Lineage) -> dict[str, int]:
    """The lineage of a model made from both."""
    return {key: max(first.get(key, 0), second.get(key, 0)) for key in {*first, *second}}
