"""Populations: who the rows of a dataset are about, and so what has been spent on them already.

What was ever spent on the same people counts: on the population that is named, on identical rows that were
handed over before, on the same file and on the same table in another, and on the versions before it of the
same name, deleted ones included. That a new version is about other people has to be said: population "new".

Why a protected name never becomes public: a version usually holds the rows of the one before, and what is
public is shown and learned from without ε. `new` does not help there: it says that these are other people,
not that their rows may be seen, and a public dataset has no population. Another name does; it is also what
tells the two apart in every list.
"""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.policies import NEW, Kin, Policy, settled, with_same_unit
from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import DatasetNotFound, DatasetNotReady, InvalidRequest, PrivacyRefused


class Rows(Protocol):
    """What is known of rows that were checked: a `Content`, or a file that was prepared."""

    @property
    def format(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def tensors(self) -> dict[str, dict[str, Any]] | None: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def rows_digest(self) -> str: ...  # noqa: D102
    @property
    def plain_digest(self) -> str: ...  # noqa: D102
    @property
    def units(self) -> int | None: ...  # noqa: D102
    @property
    def units_digest(self) -> str | None: ...  # noqa: D102
    @property
    def cells_digest(self) -> str | None: ...  # noqa: D102


class Populations:
    """Finds out about whom a dataset is, and settles its policy."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def settle(self, dataset: Dataset, asked: Policy, rows: Rows) -> None:
        """Give a dataset its population, unit, δ and cap, now that its rows are known.

        Raises InvalidRequest, DatasetNotFound, DatasetNotReady, PrivacyRefused; then nothing has changed.
        """
        kin = self._kin(dataset, asked, rows)
        unit, delta, cap = settled(asked, rows.size, rows.units, kin)
        known = kin.dataset if kin is not None else None
        if known is not None and cap > known.epsilon_cap and known.owner_id != dataset.owner_id:
            raise PrivacyRefused(
                "somebody else of your organisation is the curator of these very rows: only they raise the "
                f"epsilon_cap, which is {known.epsilon_cap:g}. Leave it out"
            )
        dataset.population = known.population if known is not None else dataset.id
        dataset.population_because = kin.because if kin is not None else NEW
        dataset.spent_epsilon = known.spent_epsilon if known is not None else 0.0
        dataset.unit, dataset.delta, dataset.epsilon_cap = unit, delta, cap
        if known is not None and cap > known.epsilon_cap:
            self._raise_cap(known.population, cap)

    def named(self, owner_id: str, asked: Policy) -> Dataset | None:
        """The dataset that is said to be about the same people.

        Raises InvalidRequest, DatasetNotFound, DatasetNotReady.
        """
        if asked.population is None:
            return None
        if asked.privacy == "public":
            raise InvalidRequest("a public dataset has no population: nothing is spent on it")
        if asked.population == NEW:
            return None
        named = self.session.get(Dataset, asked.population)
        if named is None or named.owner_id != owner_id:
            raise DatasetNotFound
        if not named.is_ready:
            raise DatasetNotReady(named.id, named.status, named.reason)
        if named.privacy == "public":
            raise InvalidRequest(f"dataset {named.id} is public: nothing is spent on it that could be shared")
        return named

    def require_never_protected(self, owner_id: str, name: str) -> None:
        """Raises PrivacyRefused where a version of this name is, was or is becoming a protected dataset."""
        before = self._newest_protected(owner_id, name, ("ready", "processing"))
        if before is not None:
            stands = "is" if before.deleted_at is None else "was"
            raise PrivacyRefused(
                f"version {before.version} of this name, dataset {before.id}, "
                f"{stands} protected: a later version cannot be public, "
                "for its rows may be among those that are shown and learned from without privacy. "
                "Give the public dataset another name"
            )

    def _kin(self, dataset: Dataset, asked: Policy, rows: Rows) -> Kin | None:
        """A protected dataset about the same people: one that is named, or has the same rows or name."""
        named = self.named(dataset.owner_id, asked)
        same = self._same_rows(dataset, asked, rows)
        if same is not None:
            _require_same_units(same, rows)
        if named is not None:
            if same is not None and same.population != named.population:
                raise PrivacyRefused(
                    f"these very rows are in another population already, that of dataset {same.id}: "
                    "name that one"
                )
            return with_same_unit(Kin(named, "named"), rows.units)
        before = None
        if asked.privacy == "protected" and asked.population is None:
            before = self._version(dataset)
        if same is None:
            return None if before is None else with_same_unit(Kin(before, "same_name"), rows.units)
        if before is not None and self._version(dataset, same.population) is None:
            raise PrivacyRefused(
                f"these very rows are in the population of dataset {same.id}, and the version before, "
                f"dataset {before.id}, is in another: give it another name, or name {same.id} as population"
            )
        return Kin(same, "same_rows")

    def _same_rows(self, dataset: Dataset, asked: Policy, rows: Rows) -> Dataset | None:
        """The oldest protected dataset of these very rows. Raises PrivacyRefused where there must be none."""
        twins = self._twins(dataset, rows, "protected")
        if twins and asked.privacy == "public":
            raise PrivacyRefused(
                "these very rows were registered as protected: they cannot be public as well"
            )
        if asked.privacy == "protected" and (public := self._twins(dataset, rows, "public")):
            raise PrivacyRefused(
                f"these very rows are registered as public, as dataset {public[0].id}: what everybody may "
                "see cannot be protected. Delete that one first"
            )
        if len(twins) > 1:
            raise PrivacyRefused(
                "these rows are about two populations: read in one way they are those of dataset "
                f"{twins[0].id}, in another those of dataset {twins[1].id}. What is spent on them would "
                "count for only one of the two: use one of those datasets"
            )
        return twins[0] if twins else None

    def _twins(self, dataset: Dataset, rows: Rows, privacy: str) -> list[Dataset]:
        """The oldest dataset of these very rows, and the oldest in another population, if there are.

        A public one must still be there.
        """
        query = select(Dataset).where(
            Dataset.tenant_id == dataset.tenant_id,
            Dataset.id != dataset.id,
            Dataset.status == "ready",
            Dataset.privacy == privacy,
            _holds(rows, dataset.source),
        )
        if privacy == "public":
            query = query.where(col(Dataset.deleted_at).is_(None))
        query = query.order_by(col(Dataset.created_at), col(Dataset.id))
        with self.session.no_autoflush:
            oldest = self.session.exec(query).first()
            if oldest is None:
                return []
            other = self.session.exec(query.where(Dataset.population != oldest.population)).first()
        return [oldest] if other is None else [oldest, other]

    def _version(self, dataset: Dataset, population: str | None = None) -> Dataset | None:
        """The newest protected dataset that its owner has given the same name, deleted ones included."""
        others = [Dataset.id != dataset.id]
        if population is not None:
            others.append(Dataset.population == population)
        return self._newest_protected(dataset.owner_id, dataset.name, ("ready",), *others)

    def _newest_protected(
        self, owner_id: str, name: str, statuses: tuple[str, ...], *others: bool
    ) -> Dataset | None:
        query = select(Dataset).where(
            Dataset.owner_id == owner_id,
            Dataset.name == name,
            Dataset.privacy == "protected",
            col(Dataset.status).in_(statuses),
            *others,
        )
        with self.session.no_autoflush:
            return self.session.exec(query.order_by(col(Dataset.version).desc())).first()

    def _raise_cap(self, population: str, cap: float) -> None:
        """The curator's decision holds for everything that is about the same people."""
        members = sa.update(Dataset).where(col(Dataset.population) == population)
        self.session.connection().execute(members.values(epsilon_cap=cap))


def _holds(rows: Rows, source: str | None) -> sa.ColumnElement[bool]:
    """Whether a dataset holds these rows, with or without ids beside them, or came as the same file."""
    before = col(Dataset.rows_digest).is_(None)  # registered when datasets had no units
    same = [
        col(Dataset.rows_digest) == rows.rows_digest,
        sa.and_(before, col(Dataset.blob).in_((rows.digest, rows.plain_digest))),
    ]
    if rows.cells_digest is not None:  # the same table, written down or read in another way
        same.append(col(Dataset.cells_digest) == rows.cells_digest)
    if source is not None:  # the same people, however the file is read this time
        same += [col(Dataset.source) == source, col(Dataset.blob) == source]
    return sa.or_(*same)


def _require_same_units(known: Dataset, rows: Rows) -> None:
    """ε of a row and ε of a person do not add up, nor do those of two groupings of the same rows."""
    if known.units_digest != rows.units_digest:
        raise PrivacyRefused(
            f"these very rows are registered already, as dataset {known.id}, where ε is about each "
            f"{known.unit}: one budget cannot be about "
            + ("other units" if known.units is not None and rows.units is not None else "both")
            + ". Hand them over as they were then"
        )
