"""The catalogue: datasets that were handed over, who may use them, and under which privacy policy."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.contents import Content
from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import (
    DatasetInUse,
    DatasetNotFound,
    IdempotencyConflict,
    InvalidRequest,
    PrivacyRefused,
)
from tg_workbench.identity import Principal
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage import Blobs
from tg_workbench.storage.database import after_commit, now

DEFAULT_EPSILON_CAP = 10.0


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A dataset as it is handed over. δ defaults to min(1e-5, N^-1.1), the cap to ε = 10."""

    name: str
    content: Content
    privacy: str = "protected"
    delta: float | None = None
    epsilon_cap: float | None = None
    population: str | None = None
    """A dataset that is about the same people. Identical rows need not say so: they are found."""
    idempotency_key: str | None = None
    unit: str | None = None
    """What a unit is called, where the content says whom each row is about: patient, author … ("unit")."""


class Datasets:
    """Registered datasets."""

    def __init__(self, session: Session, blobs: Blobs) -> None:
        self.session = session
        self.blobs = blobs

    def register(self, owner: Principal, spec: DatasetSpec) -> Dataset:
        """Check a dataset and keep it.

        What was ever spent on the same people counts: on the `population` that is named, and on identical
        rows that were registered before, deleted ones too. Raises InvalidRequest, DatasetNotFound,
        PrivacyRefused, IdempotencyConflict, StorageFull.
        """
        fingerprint = _fingerprint(spec)
        if known := self._by_key(owner, spec.idempotency_key):
            if known.fingerprint != fingerprint:
                raise IdempotencyConflict
            return known
        if not spec.name.strip() or len(spec.name) > 200:
            raise InvalidRequest("name must have 1 to 200 characters")
        if spec.privacy not in ("protected", "public"):
            raise InvalidRequest("privacy must be 'protected' or 'public'")
        content = spec.content
        dataset_id = f"ds-{uuid.uuid4()}"
        kin = self._kin(owner, spec)
        dataset = Dataset(
            id=dataset_id,
            population=kin.population if kin is not None else dataset_id,
            spent_epsilon=kin.spent_epsilon if kin is not None else 0.0,
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            name=spec.name.strip(),
            privacy=spec.privacy,
            format=content.format,
            size=content.size,
            tensors=json.dumps(content.tensors) if content.tensors else None,
            blob=content.digest,
            rows_digest=content.rows_digest,
            units=content.units,
            units_digest=content.units_digest,
            unit=_unit(spec, kin),
            delta=_delta(spec.delta, content.units or content.size, kin),
            epsilon_cap=_cap(spec.epsilon_cap, kin),
            idempotency_key=spec.idempotency_key,
            fingerprint=fingerprint,
        )
        self.blobs.put(content.data)  # last: what is refused leaves no rows behind
        self.session.add(dataset)
        self.session.flush()
        self._tell(dataset)
        if kin is not None and dataset.epsilon_cap > kin.epsilon_cap:
            self._raise_cap(dataset.population, dataset.epsilon_cap)
        return dataset

    def _tell(self, dataset: Dataset) -> None:
        """Neither its name nor its size: the one is free text, the other is not covered by ε."""
        ready = {"dataset_id": dataset.id, "status": "ready", "privacy": dataset.privacy}
        Outbox(self.session).put(
            dataset.tenant_id,
            WebhookEvent.DATASET_PROCESSED,
            ready | {"format": dataset.format},
            owner_id=dataset.owner_id,
        )

    def get(self, owner: Principal, dataset_id: str, *, even_deleted: bool = False) -> Dataset:
        """The dataset. Raises DatasetNotFound, also when it is somebody else's."""
        dataset = self.session.get(Dataset, dataset_id)
        if dataset is None or dataset.owner_id != owner.id:
            raise DatasetNotFound
        if dataset.deleted_at is not None and not even_deleted:
            raise DatasetNotFound
        return dataset

    def list_page(self, owner: Principal, *, limit: int = 50, offset: int = 0) -> tuple[list[Dataset], int]:
        """The owner's datasets, newest first, and how many there are."""
        mine = (col(Dataset.owner_id) == owner.id, col(Dataset.deleted_at).is_(None))
        total = self.session.exec(select(sa.func.count()).select_from(Dataset).where(*mine)).one()
        query = select(Dataset).where(*mine).order_by(col(Dataset.created_at).desc(), col(Dataset.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def delete(self, owner: Principal, dataset_id: str, *, users: int) -> None:
        """Forget the rows; the ledger stays. `users` live clients forbid it. Raises DatasetInUse."""
        dataset = self.get(owner, dataset_id)
        if users:
            raise DatasetInUse(dataset_id, users)
        dataset.deleted_at = now()
        self.session.add(dataset)
        self.session.flush()
        query = select(Dataset.id).where(Dataset.blob == dataset.blob, col(Dataset.deleted_at).is_(None))
        if self.session.exec(query).first() is None:
            after_commit(self.session, lambda: self.blobs.delete(dataset.blob))

    def _kin(self, owner: Principal, spec: DatasetSpec) -> Dataset | None:
        """A protected dataset about the same people: the one that is named, or the same rows."""
        if spec.population is not None and spec.privacy == "public":
            raise InvalidRequest("a public dataset has no population: nothing is spent on it")
        same_rows = select(Dataset).where(
            Dataset.tenant_id == owner.tenant_id, _holds(spec.content), Dataset.privacy == "protected"
        )
        same = self.session.exec(same_rows.order_by(col(Dataset.created_at))).first()
        if same is not None and spec.privacy == "public":
            raise PrivacyRefused(
                "these very rows were registered as protected: they cannot be public as well"
            )
        if spec.privacy == "protected" and (known := self._public_twin(owner, spec.content)) is not None:
            raise PrivacyRefused(
                f"these very rows are registered as public, as dataset {known}: what everybody may see "
                "cannot be protected. Delete that one first"
            )
        if same is not None:
            _require_same_units(same, spec.content)
        if spec.population is None:
            return same
        named = self.get(owner, spec.population, even_deleted=True)
        if named.privacy == "public":
            raise InvalidRequest(f"dataset {named.id} is public: nothing is spent on it that could be shared")
        if same is not None and same.population != named.population:
            raise PrivacyRefused(
                f"these very rows are in another population already, that of dataset {same.id}: name that one"
            )
        if (named.units is None) != (spec.content.units is None):
            raise PrivacyRefused(
                f"one budget is about one unit of privacy: that of dataset {named.id} is the {named.unit}. "
                + ("Give unit_ids" if named.units is not None else "Leave unit_ids out")
            )
        return named

    def _public_twin(self, owner: Principal, content: Content) -> str | None:
        query = select(Dataset.id).where(
            Dataset.tenant_id == owner.tenant_id,
            _holds(content),
            Dataset.privacy == "public",
            col(Dataset.deleted_at).is_(None),
        )
        return self.session.exec(query).first()

    def _raise_cap(self, population: str, cap: float) -> None:
        """The curator's decision holds for everything that is about the same people."""
        members = sa.update(Dataset).where(col(Dataset.population) == population)
        self.session.connection().execute(members.values(epsilon_cap=cap))

    def _by_key(self, owner: Principal, key: str | None) -> Dataset | None:
        if key is None:
            return None
        query = select(Dataset).where(Dataset.owner_id == owner.id, Dataset.idempotency_key == key)
        return self.session.exec(query).first()


def _holds(content: Content) -> sa.ColumnElement[bool]:
    """Whether a dataset holds these rows, with or without ids beside them."""
    before = col(Dataset.rows_digest).is_(None)  # registered when datasets had no units
    return sa.or_(
        col(Dataset.rows_digest) == content.rows_digest,
        sa.and_(before, col(Dataset.blob).in_((content.digest, content.plain_digest))),
    )


def _require_same_units(known: Dataset, content: Content) -> None:
    """ε of a row and ε of a person do not add up, nor do those of two groupings of the same rows."""
    if known.units_digest != content.units_digest:
        raise PrivacyRefused(
            f"these very rows are registered already, as dataset {known.id}, where ε is about each "
            f"{known.unit}: one budget cannot be about "
            + ("other units" if known.units is not None and content.units is not None else "both")
            + ". Hand them over as they were then"
        )


def _unit(spec: DatasetSpec, kin: Dataset | None) -> str:
    """What ε is about, in a word: that of the same people's other datasets. Raises InvalidRequest."""
    if spec.content.units is None and spec.unit not in (None, "example"):
        raise InvalidRequest("a unit needs unit_ids: they say which rows are about the same one")
    if kin is not None and spec.unit not in (None, kin.unit):
        raise PrivacyRefused(
            f"one budget is about one unit of privacy: that of dataset {kin.id} is the {kin.unit}, as it was "
            "called then. Leave unit out, or call it so"
        )
    if kin is not None:
        return kin.unit
    return "example" if spec.content.units is None else spec.unit or "unit"


def _fingerprint(spec: DatasetSpec) -> str:
    """What a retry under the same Idempotency-Key must have in common: everything but the key."""
    what = (spec.content.digest, spec.content.format, spec.name)
    policy = (spec.privacy, spec.delta, spec.epsilon_cap, spec.population, spec.unit)
    return hashlib.sha256(repr(what + policy).encode()).hexdigest()


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
