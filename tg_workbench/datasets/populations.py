"""Populations: who the rows of a dataset are about, and so what has been spent on them already.

What was ever spent on the same people counts: on the population that is named, on identical rows that were
handed over before, on the same file and on the same table in another, deleted ones included.
"""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import DatasetNotFound, DatasetNotReady, InvalidRequest, PrivacyRefused

DEFAULT_EPSILON_CAP = 10.0


class Policy(Protocol):
    """What is asked of a dataset's privacy."""

    @property
    def privacy(self) -> str: ...  # noqa: D102
    @property
    def delta(self) -> float | None: ...  # noqa: D102
    @property
    def epsilon_cap(self) -> float | None: ...  # noqa: D102
    @property
    def population(self) -> str | None: ...  # noqa: D102
    @property
    def unit(self) -> str | None: ...  # noqa: D102


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
        unit, delta = _unit(asked, rows, kin), _delta(asked.delta, rows.units or rows.size, kin)
        cap = _cap(asked.epsilon_cap, kin)
        if kin is not None and cap > kin.epsilon_cap and kin.owner_id != dataset.owner_id:
            raise PrivacyRefused(
                "somebody else of your organisation is the curator of these very rows: only they raise the "
                f"epsilon_cap, which is {kin.epsilon_cap:g}. Leave it out"
            )
        dataset.population = kin.population if kin is not None else dataset.id
        dataset.spent_epsilon = kin.spent_epsilon if kin is not None else 0.0
        dataset.unit, dataset.delta, dataset.epsilon_cap = unit, delta, cap
        if kin is not None and cap > kin.epsilon_cap:
            self._raise_cap(kin.population, cap)

    def named(self, owner_id: str, asked: Policy) -> Dataset | None:
        """The dataset that is said to be about the same people.

        Raises InvalidRequest, DatasetNotFound, DatasetNotReady.
        """
        if asked.population is None:
            return None
        if asked.privacy == "public":
            raise InvalidRequest("a public dataset has no population: nothing is spent on it")
        named = self.session.get(Dataset, asked.population)
        if named is None or named.owner_id != owner_id:
            raise DatasetNotFound
        if not named.is_ready:
            raise DatasetNotReady(named.id, named.status, named.reason)
        if named.privacy == "public":
            raise InvalidRequest(f"dataset {named.id} is public: nothing is spent on it that could be shared")
        return named

    def _kin(self, dataset: Dataset, asked: Policy, rows: Rows) -> Dataset | None:
        """A protected dataset about the same people: the one that is named, or the same rows."""
        named = self.named(dataset.owner_id, asked)
        same = self._twin(dataset, rows, "protected")
        if same is not None and asked.privacy == "public":
            raise PrivacyRefused(
                "these very rows were registered as protected: they cannot be public as well"
            )
        if asked.privacy == "protected" and (known := self._twin(dataset, rows, "public")) is not None:
            raise PrivacyRefused(
                f"these very rows are registered as public, as dataset {known.id}: what everybody may see "
                "cannot be protected. Delete that one first"
            )
        if same is not None:
            _require_same_units(same, rows)
        if named is None:
            return same
        if same is not None and same.population != named.population:
            raise PrivacyRefused(
                f"these very rows are in another population already, that of dataset {same.id}: name that one"
            )
        if (named.units is None) != (rows.units is None):
            raise PrivacyRefused(
                f"one budget is about one unit of privacy: that of dataset {named.id} is the {named.unit}. "
                + ("Give unit_ids" if named.units is not None else "Leave unit_ids out")
            )
        return named

    def _twin(self, dataset: Dataset, rows: Rows, privacy: str) -> Dataset | None:
        """The oldest dataset of these very rows; a public one must still be there."""
        query = select(Dataset).where(
            Dataset.tenant_id == dataset.tenant_id,
            Dataset.id != dataset.id,
            Dataset.status == "ready",
            Dataset.privacy == privacy,
            _holds(rows, dataset.source),
        )
        if privacy == "public":
            query = query.where(col(Dataset.deleted_at).is_(None))
        with self.session.no_autoflush:
            return self.session.exec(query.order_by(col(Dataset.created_at))).first()

    def _raise_cap(self, population: str, cap: float) -> None:
        """The curator's decision holds for everything that is about the same people."""
        members = sa.update(Dataset).where(col(Dataset.population) == population)
        self.session.connection().execute(members.values(epsilon_cap=cap))


def check_policy(asked: Policy) -> None:
    """What can be said of a policy before the rows are known. Raises InvalidRequest."""
    if asked.privacy not in ("protected", "public"):
        raise InvalidRequest("privacy must be 'protected' or 'public'")
    if asked.delta is not None and not 0 < asked.delta < 1:
        raise InvalidRequest("delta must lie between 0 and 1")
    if asked.epsilon_cap is not None:
        _cap(asked.epsilon_cap, None)


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


def _unit(asked: Policy, rows: Rows, kin: Dataset | None) -> str:
    """What ε is about, in a word: that of the same people's other datasets. Raises InvalidRequest."""
    if rows.units is None and asked.unit not in (None, "example"):
        raise InvalidRequest("a unit needs unit_ids: they say which rows are about the same one")
    if kin is not None and asked.unit not in (None, kin.unit):
        raise PrivacyRefused(
            f"one budget is about one unit of privacy: that of dataset {kin.id} is the {kin.unit}, as it was "
            "called then. Leave unit out, or call it so"
        )
    if kin is not None:
        return kin.unit
    return "example" if rows.units is None else asked.unit or "unit"


def _delta(asked: float | None, size: int, kin: Dataset | None) -> float:
    if kin is not None and asked not in (None, kin.delta):
        raise InvalidRequest(
            "delta is fixed for the people these rows are about, so that what is spent adds up: leave it out "
            f"or give {kin.delta:g}, as for dataset {kin.id}"
        )
    if kin is not None and kin.delta >= 1 / size:
        raise InvalidRequest(f"the population's delta, {kin.delta:g}, is not below 1/N = {1 / size:.2g}")
    if kin is not None:
        return kin.delta
    delta = min(1e-5, size**-1.1) if asked is None else asked
    if not 0 < delta < 1 or (asked is not None and asked >= 1 / size):
        raise InvalidRequest(f"delta must lie above 0 and below 1/N = {1 / size:.2g}")
    return delta


def _cap(asked: float | None, kin: Dataset | None) -> float:
    if asked is None:
        return kin.epsilon_cap if kin is not None else DEFAULT_EPSILON_CAP
    if kin is not None and asked < kin.epsilon_cap:
        raise InvalidRequest(
            f"epsilon_cap can only be raised: it is {kin.epsilon_cap:g} for the people these rows are about, "
            f"from dataset {kin.id}"
        )
    if not 0 < asked <= 1000:
        raise InvalidRequest("epsilon_cap must lie between 0 and 1000")
    return asked
