"""Uploads: files that come in pieces, and go on where they were when the line, or the workbench, broke down.

upload = uploads.begin(owner, spec, size)
uploads.file(upload).appending(offset, upload.size)   # as often as it takes
dataset = uploads.complete(owner, upload.id, uploads.file(upload).digest(upload.sha256))
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.catalogue import Datasets
from tg_workbench.datasets.specs import FileSpec
from tg_workbench.datasets.tables import Dataset, Upload
from tg_workbench.errors import InvalidRequest, QuotaExceeded, UploadNotFound
from tg_workbench.identity import Principal
from tg_workbench.storage import PartialFile
from tg_workbench.storage.database import after_commit, now
from tg_workbench.storage.partial_files import folder_of
from tg_workbench.storage.statements import Statement

LIFETIME_SECONDS = 86_400.0
MOST_OPEN = 8
"""How many uploads one owner may have begun and not ended."""
_DUE = Statement(
    sa.select(col(Upload.id))
    .where(col(Upload.expires_at) < sa.bindparam("moment"))
    .limit(sa.literal_column("1"))
)


class Uploads:
    """Uploads that were begun."""

    def __init__(self, session: Session, datasets: Datasets) -> None:
        self.session = session
        self.datasets = datasets

    def begin(self, owner: Principal, spec: FileSpec, size: int, sha256: str | None = None) -> Upload:
        """An upload of a file of `size` bytes. The same again, with its digest, goes on with what was begun.

        Raises QuotaExceeded, and what can be said of the dataset already: InvalidRequest, DatasetNotFound.
        """
        self.datasets.expect(owner, spec)
        still_open = self._open_ones(owner)
        for upload in still_open if sha256 is not None else ():
            if (upload.size, upload.sha256) == (size, sha256) and FileSpec.from_json(upload.asked) == spec:
                return upload
        if len(still_open) >= MOST_OPEN:
            raise QuotaExceeded("open uploads", MOST_OPEN)
        upload = Upload(
            id=f"up-{uuid.uuid4()}",
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            size=size,
            sha256=sha256,
            asked=spec.as_json(),
            expires_at=now() + LIFETIME_SECONDS,
        )
        self.session.add(upload)
        self.session.flush()
        return upload

    def get(self, owner: Principal, upload_id: str) -> Upload:
        """The upload. Raises UploadNotFound, also when its time is over or it is somebody else's."""
        upload = self.session.get(Upload, upload_id)
        if upload is None or upload.owner_id != owner.id or upload.expires_at < now():
            raise UploadNotFound
        return upload

    def offset(self, upload: Upload) -> int:
        """How much of it is here."""
        return upload.size if upload.dataset_id is not None else self.file(upload).size

    def file(self, upload: Upload) -> PartialFile:
        """Where it arrives."""
        return PartialFile(self.datasets.blobs, upload.id)

    def complete(self, owner: Principal, upload_id: str, source: str) -> Dataset:
        """Make the whole file, whose SHA-256 is `source`, a dataset; doing it again gives the same one.

        Raises UploadNotFound, InvalidRequest when it is not whole, and what `Datasets.upload` does.
        """
        upload = self.get(owner, upload_id)
        if upload.dataset_id is not None:
            return self.datasets.get(owner, upload.dataset_id, even_deleted=True)
        file = self.file(upload)
        if file.size != upload.size:
            raise InvalidRequest(f"{file.size} bytes of {upload.size} are here: send the rest first")
        dataset = self.datasets.upload(owner, FileSpec.from_json(upload.asked), source, upload.size)
        file.adopt(source)  # last: what is refused leaves no blob behind
        upload.dataset_id = dataset.id
        self.session.add(upload)
        self.session.flush()
        after_commit(self.session, file.forget)
        return dataset

    def delete(self, owner: Principal, upload_id: str) -> None:
        """Forget an upload and what has arrived; a dataset that it became stays. Raises UploadNotFound."""
        self._forget(self.get(owner, upload_id))

    def is_due(self) -> bool:
        """Whether the time of any is over."""
        return _DUE.first(self.session, moment=now()) is not None

    def forget_expired(self) -> None:
        """Forget those whose time is over."""
        for upload in self.session.exec(select(Upload).where(col(Upload.expires_at) < now())):
            self._forget(upload)

    def tidy(self) -> None:
        """The same, and files that belong to none: while nothing arrives."""
        self.forget_expired()
        known = set(self.session.exec(select(Upload.id)))
        for path in folder_of(self.datasets.blobs).glob("up-*"):
            if path.name not in known:
                after_commit(self.session, partial(path.unlink, missing_ok=True))

    def _open_ones(self, owner: Principal) -> Sequence[Upload]:
        query = select(Upload).where(Upload.owner_id == owner.id, col(Upload.dataset_id).is_(None))
        return self.session.exec(query.where(col(Upload.expires_at) >= now())).all()

    def _forget(self, upload: Upload) -> None:
        self.session.delete(upload)
        self.session.flush()
        after_commit(self.session, self.file(upload).forget)
