"""The catalogue: datasets that were handed over, who may use them, and under which privacy policy."""

from __future__ import annotations

import json
import unicodedata
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from tg_workbench.datasets.policies import DEFAULT_EPSILON_CAP, check_policy
from tg_workbench.datasets.populations import Populations, Rows
from tg_workbench.datasets.specs import WORK_KIND, DatasetSpec, FileSpec
from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import (
    DatasetInUse,
    DatasetNotFound,
    DatasetNotReady,
    IdempotencyConflict,
    InvalidRequest,
    QuotaExceeded,
)
from tg_workbench.execution import Turn, release_work, request_worker
from tg_workbench.identity import Principal
from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.storage import Blobs, LeftBlobs
from tg_workbench.storage.database import after_commit, now

MOST_PROCESSING = 32
"""How many files of one owner may wait to be looked at."""
SortKey = Literal["name", "created_at", "size"]
_COLUMNS: dict[str, Any] = {
    "name": sa.func.lower(col(Dataset.name)),
    "created_at": col(Dataset.created_at),
    "size": sa.func.coalesce(col(Dataset.file_size), 0),
}

_OF_ONE: tuple[Any, ...] = (Dataset.profile, Dataset.encoding, Dataset.asked)
"""What no list tells, and may be megabytes."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list, in which order."""

    limit: int = 50
    offset: int = 0
    sort_by: SortKey = "created_at"
    descending: bool = True
    name: str | None = None
    """Only the versions of this one."""


class Datasets:
    """Registered datasets. `folder` is where workers are rung; without it no file is taken."""

    def __init__(self, session: Session, blobs: Blobs, folder: Path | None = None) -> None:
        self.session = session
        self.blobs = blobs
        self.left = LeftBlobs(session, blobs)
        self.folder = folder

    def register(self, owner: Principal, spec: DatasetSpec) -> Dataset:
        """Check a dataset and keep it. `LeftBlobs.announce` its content before, in a transaction of its own.

        What was ever spent on the same people counts: on the `population` that is named, and on identical
        rows that were registered before, deleted ones too. Raises InvalidRequest, DatasetNotFound,
        DatasetNotReady, PrivacyRefused, IdempotencyConflict, StorageFull.
        """
        if known := self._by_key(owner, spec.idempotency_key, spec.fingerprint):
            return known
        content = spec.content
        dataset = self._new(owner, spec)
        dataset.idempotency_key, dataset.fingerprint = spec.idempotency_key, spec.fingerprint
        dataset.file_size, dataset.file_format = len(content.data), content.format
        Populations(self.session).settle(dataset, spec, content)
        take_rows(dataset, content)
        self.blobs.put(content.data)  # last: what is refused leaves no rows behind
        self.left.named([content.digest])
        self.session.add(dataset)
        self.session.flush()
        tell(self.session, dataset)
        return dataset

    def upload(
        self, owner: Principal, spec: FileSpec, source: str, size: int, key: str | None = None
    ) -> Dataset:
        """Take a file, which is the blob `source`: it is `processing` until a worker has looked at it.

        `LeftBlobs.announce` the file before, in a transaction of its own.
        Raises InvalidRequest, PrivacyRefused, DatasetNotFound, DatasetNotReady, IdempotencyConflict,
        QuotaExceeded.
        """
        if self.folder is None:
            raise RuntimeError("this catalogue knows of no workers")
        fingerprint = spec.fingerprint(source)
        if known := self._by_key(owner, key, fingerprint):
            return known
        dataset = self.expect(owner, spec)
        dataset.idempotency_key, dataset.fingerprint = key, fingerprint
        dataset.source, dataset.file_name, dataset.file_size = source, spec.file_name, size
        self.left.named([source])
        self.session.add(dataset)
        self.session.flush()
        request_worker(self.session, self.folder, dataset.id, WORK_KIND, Turn(share=owner.id))
        return dataset

    def expect(self, owner: Principal, spec: FileSpec) -> Dataset:
        """The dataset that a file will be, not stored yet: all of what was said that can be refused now is.

        Raises InvalidRequest, PrivacyRefused, DatasetNotFound, DatasetNotReady, QuotaExceeded.
        """
        dataset = self._new(owner, spec)
        Populations(self.session).named(owner.id, spec)
        waiting = select(sa.func.count()).select_from(Dataset)
        waiting = waiting.where(Dataset.owner_id == owner.id, Dataset.status == "processing")
        if self.session.exec(waiting).one() >= MOST_PROCESSING:
            raise QuotaExceeded("datasets being processed", MOST_PROCESSING)
        dataset.status, dataset.asked = "processing", spec.as_json()
        dataset.description, dataset.dataset_type = spec.description, spec.dataset_type
        dataset.target = spec.target
        dataset.unit = spec.unit or "example"
        dataset.delta = spec.delta or 0.0
        dataset.epsilon_cap = DEFAULT_EPSILON_CAP if spec.epsilon_cap is None else spec.epsilon_cap
        return dataset

    def get(
        self, owner: Principal, dataset_id: str, *, even_deleted: bool = False, ready: bool = False
    ) -> Dataset:
        """The dataset. Raises DatasetNotFound, also when it is somebody else's.

        With `ready` one that has no rows raises DatasetNotReady.
        """
        dataset = self.session.get(Dataset, dataset_id)
        if dataset is None or dataset.owner_id != owner.id:
            raise DatasetNotFound
        if dataset.deleted_at is not None and not even_deleted:
            raise DatasetNotFound
        if ready:
            require_ready(dataset)
        return dataset

    def list_page(self, owner: Principal, page: Page | None = None) -> tuple[list[Dataset], int]:
        """The owner's datasets, newest first unless said otherwise, and how many there are."""
        page = page or Page()
        mine = [col(Dataset.owner_id) == owner.id, col(Dataset.deleted_at).is_(None)]
        if page.name is not None:
            mine.append(col(Dataset.name) == page.name)
        total = self.session.exec(select(sa.func.count()).select_from(Dataset).where(*mine)).one()
        key = _COLUMNS[page.sort_by]
        query = select(Dataset).where(*mine).options(*map(defer, _OF_ONE))
        query = query.order_by(key.desc() if page.descending else key.asc(), col(Dataset.id))
        return list(self.session.exec(query.limit(page.limit).offset(page.offset))), total

    def delete(self, owner: Principal, dataset_id: str, *, users: int) -> None:
        """Forget the rows and the file; the ledger stays. `users` live clients and jobs forbid it.

        One that is being processed ends so. Raises DatasetNotFound, DatasetInUse.
        """
        dataset = self.get(owner, dataset_id)
        if users:
            raise DatasetInUse(dataset_id, users)
        dataset.deleted_at = now()
        if dataset.status == "processing":
            dataset.status, dataset.reason = "failed", "it was deleted"
            release_work(self.session, dataset.id)
        self.session.add(dataset)
        self.session.flush()
        engine = self.session.connection().engine
        for blob in filter(None, {dataset.blob, dataset.source}):
            self.left.leave([blob])  # should this process die before it is gone
            after_commit(self.session, partial(_drop_unless_named, engine, self.blobs, blob))

    def _new(self, owner: Principal, spec: DatasetSpec | FileSpec) -> Dataset:
        """A dataset without rows, the next version of its name. Raises InvalidRequest, PrivacyRefused."""
        name = unicodedata.normalize("NFC", spec.name.strip())  # macOS takes its file names apart: one name
        if not name or len(spec.name) > 200:
            raise InvalidRequest("name must have 1 to 200 characters")
        check_policy(spec)
        if spec.privacy == "public":
            Populations(self.session).require_never_protected(owner.id, name)
        newest = select(sa.func.max(col(Dataset.version)))
        newest = newest.where(Dataset.owner_id == owner.id, Dataset.name == name)
        dataset_id = f"ds-{uuid.uuid4()}"
        return Dataset(
            id=dataset_id,
            population=dataset_id,
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            name=name,
            privacy=spec.privacy,
            version=(self.session.exec(newest).one() or 0) + 1,
            format="",
            size=0,
            blob="",
            delta=0.0,
            epsilon_cap=DEFAULT_EPSILON_CAP,
        )

    def _by_key(self, owner: Principal, key: str | None, fingerprint: str) -> Dataset | None:
        """What was made under this key. Raises IdempotencyConflict when it was another request."""
        if key is None:
            return None
        query = select(Dataset).where(Dataset.owner_id == owner.id, Dataset.idempotency_key == key)
        known = self.session.exec(query).first()
        if known is not None and known.fingerprint != fingerprint:
            raise IdempotencyConflict
        return known


def require_ready(dataset: Dataset) -> None:
    """Raises DatasetNotReady when there are no rows to learn from."""
    if not dataset.is_ready:
        raise DatasetNotReady(dataset.id, dataset.status, dataset.reason)


def is_named(session: Session, blob: str) -> bool:
    """Whether a dataset that is there has this blob, for its rows or as its file."""
    named = sa.or_(col(Dataset.blob) == blob, col(Dataset.source) == blob)
    query = select(Dataset.id).where(named, col(Dataset.deleted_at).is_(None))
    return session.exec(query).first() is not None


def _drop_unless_named(engine: sa.Engine, blobs: Blobs, blob: str) -> None:
    """Under the writers' lock, which whoever gives the same content to a new dataset holds as well."""
    with engine.begin() as connection, Session(connection) as session:
        if not is_named(session, blob):
            blobs.delete(blob)


def take_rows(dataset: Dataset, rows: Rows) -> None:
    """Give a dataset the rows that were checked."""
    dataset.format, dataset.size = rows.format, rows.size
    dataset.tensors = json.dumps(rows.tensors) if rows.tensors else None
    dataset.blob, dataset.rows_digest = rows.digest, rows.rows_digest
    dataset.units, dataset.units_digest = rows.units, rows.units_digest
    dataset.cells_digest = rows.cells_digest


def tell(session: Session, dataset: Dataset) -> None:
    """Neither its name nor its size: the one is free text, the other is not covered by ε."""
    told = {"dataset_id": dataset.id, "status": dataset.status, "privacy": dataset.privacy}
    if dataset.is_ready:
        told["format"] = dataset.format
    Outbox(session).put(dataset.tenant_id, WebhookEvent.DATASET_PROCESSED, told, owner_id=dataset.owner_id)
