"""Update uploads: updates that come in pieces, and go on where they were when the line, or a process, broke.

upload = uploads.begin(device, round_id, size, sha256)
uploads.file(upload).appending(offset, upload.size)   # as often as it takes
submissions.keep(…)                                   # once it is whole, as if it had come so
"""

from __future__ import annotations

import uuid
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import UploadNotFound
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.rounds.submissions import Submissions
from tg_workbench.federation.rounds.tables import UpdateUpload
from tg_workbench.federation.rounds.unfinished import forget_unfinished
from tg_workbench.storage import Blobs, PartialFile
from tg_workbench.storage.database import after_commit, now
from tg_workbench.storage.partial_files import folder_of
from tg_workbench.storage.statements import Statement

LIFETIME_SECONDS = 86_400.0
PREFIX = "upd-"
_DUE = Statement(
    sa.select(col(UpdateUpload.id))
    .where(col(UpdateUpload.expires_at) <= sa.bindparam("moment"))
    .limit(sa.literal_column("1"))
)


class UpdateUploads:
    """Updates that were begun: at most one of each device for each round."""

    def __init__(self, session: Session, folder: Path, blobs: Blobs) -> None:
        self.session = session
        self.blobs = blobs
        self.submissions = Submissions(session, folder, blobs)

    def begin(self, device: Device, round_id: str, size: int, sha256: str) -> UpdateUpload | None:
        """An upload of an update of `size` bytes; None when it is here. The same again goes on.

        What had come of another one is forgotten. Raises RoundNotFound, RoundNotOpen, UpdateAlreadySubmitted.
        """
        part = self.submissions.expect(device, round_id, sha256)
        if part.digest is not None:
            return None
        found = self._of(device, round_id)
        if found is not None and (found.size, found.sha256) == (size, sha256) and found.expires_at > now():
            return found
        if found is not None:
            self.forget(found)
        round_, spec, _ = self.submissions.rounds.for_device(device, round_id)
        latest = now() + LIFETIME_SECONDS
        due_at = None if spec.is_asynchronous else round_.due_at
        upload = UpdateUpload(
            id=f"{PREFIX}{uuid.uuid4()}",
            round_id=round_id,
            device_id=device.id,
            tenant_id=device.organization_id,
            size=size,
            sha256=sha256,
            expires_at=latest if due_at is None else min(latest, due_at),
        )
        self.session.add(upload)
        self.session.flush()
        return upload

    def get(self, device: Device, round_id: str, upload_id: str) -> UpdateUpload:
        """The upload. Raises UploadNotFound, also when its time is over or it is another device's."""
        upload = self._of(device, round_id)
        if upload is None or upload.id != upload_id or upload.expires_at <= now():
            raise UploadNotFound
        return upload

    def file(self, upload: UpdateUpload) -> PartialFile:
        """Where it arrives."""
        return PartialFile(self.blobs, upload.id)

    def forget(self, upload: UpdateUpload) -> None:
        """Forget what was begun, and what has come of it; what was submitted stays."""
        forget_unfinished(self.session, self.blobs, col(UpdateUpload.id) == upload.id)

    def is_due(self) -> bool:
        """Whether the time of any is over."""
        return _DUE.first(self.session, moment=now()) is not None

    def forget_expired(self) -> None:
        """Forget those whose time is over."""
        forget_unfinished(self.session, self.blobs, col(UpdateUpload.expires_at) <= now())

    def tidy(self) -> None:
        """The same, and files that belong to none: while nothing arrives."""
        self.forget_expired()
        known = set(self.session.exec(select(UpdateUpload.id)))
        for path in folder_of(self.blobs).glob(f"{PREFIX}*"):
            if path.name not in known:
                after_commit(self.session, partial(path.unlink, missing_ok=True))

    def _of(self, device: Device, round_id: str) -> UpdateUpload | None:
        query = select(UpdateUpload).where(
            UpdateUpload.round_id == round_id, UpdateUpload.device_id == device.id
        )
        return self.session.exec(query).first()
