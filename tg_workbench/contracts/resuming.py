"""An update that comes in pieces: what has come stays, and the whole is looked into as one that came so.

Its head is verified with the first piece, before there is more to keep; so nobody fills the disk with what no
device has signed, or what was made for something else. No transaction is held while pieces come.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from sqlmodel import Session

from tg_workbench.contracts.failures import BodyTooLarge
from tg_workbench.contracts.pieces import Pace, offset_of, write_body
from tg_workbench.contracts.providers import RoundId
from tg_workbench.contracts.submitting import SubmissionDesk, TheSubmissionDesk
from tg_workbench.crypto.envelopes import MOST_HEAD_BYTES
from tg_workbench.errors import EnvelopeBroken, UploadNotFound
from tg_workbench.federation.rounds import Participation, UpdateUpload, UpdateUploads
from tg_workbench.storage import Appended, PartialFile


@dataclass(frozen=True, slots=True)
class Arriving:
    """How much of an update is here; `part` once it was submitted, and then perhaps no upload."""

    upload: UpdateUpload | None
    size: int
    offset: int
    part: Participation | None


class UploadDesk:
    """Takes in the update of one device for one round, piece by piece."""

    def __init__(self, desk: SubmissionDesk, round_id: str) -> None:
        """Raises RoundNotFound when the device takes no part in this round."""
        self.desk = desk
        self.premises = desk.premises
        self.device = desk.device.device
        self.round_id = round_id
        with self.premises.database.read() as session:
            round_, _, _ = self._room(session).submissions.rounds.for_device(self.device, round_id)
            most = self._room(session).submissions.most_bytes(round_)
        self.most = min(most, self.premises.settings.max_upload_bytes)

    async def begin(self, size: int, sha256: str) -> Arriving:
        """Begin, or go on with what was begun for the same bytes.

        Raises BodyTooLarge, RoundNotOpen, UpdateAlreadySubmitted, UpdateRejected.
        """
        with self.desk.telling(self.round_id):
            if size > self.most:
                raise BodyTooLarge(f"an update for this round has at most {self.most:,} bytes")
            with self.premises.database.write() as session:
                room = self._room(session)
                upload = room.begin(self.device, self.round_id, size, sha256)
                offset = size if upload is None else room.file(upload).size
                part = room.submissions.expect(self.device, self.round_id, sha256)
        if upload is not None:
            return Arriving(upload, size, offset, None)
        return Arriving(None, size, size, await self.desk.verdict(part))

    def look(self, upload_id: str) -> Arriving:
        """How much is here. Raises UploadNotFound, RoundNotOpen, UpdateAlreadySubmitted, UpdateRejected."""
        with self.premises.database.read() as session:
            room = self._room(session)
            upload = room.get(self.device, self.round_id, upload_id)
            part = room.submissions.expect(self.device, self.round_id, upload.sha256)
            if part.digest is not None:
                return Arriving(upload, upload.size, upload.size, room.submissions.require_good(part))
            return Arriving(upload, upload.size, room.file(upload).size, None)

    async def take(self, upload_id: str, offset: int | None) -> Arriving:
        """The upload after a piece; with the last one the update is submitted.

        Raises UploadNotFound, UploadBusy, UploadOffsetWrong, UploadTooSlow, and what submitting it raises.
        """
        found = self.look(upload_id)
        if found.upload is None or found.part is not None:
            return found if found.part is None else await self._judged(found)
        offset = offset_of(self.desk.request, offset)
        upload, file = found.upload, PartialFile(self.premises.blobs, upload_id)
        async with self.premises.update_intake.place(self.device.id):
            try:
                with file.appending(offset, upload.size) as appended, self.desk.telling(self.round_id):
                    part = await self._receive(upload, file, appended)
            except EnvelopeBroken:
                with self.premises.database.write() as session:
                    self._room(session).forget(upload)
                raise
            finally:
                if not self._is_wanted(upload):  # it was forgotten meanwhile, and its file made anew perhaps
                    file.forget()
        if part is None:
            return self.look(upload_id)
        return await self._judged(Arriving(upload, upload.size, upload.size, part))

    def delete(self, upload_id: str) -> None:
        """Forget what was begun; what was submitted stays. Raises UploadNotFound."""
        with self.premises.database.write() as session:
            room = self._room(session)
            room.forget(room.get(self.device, self.round_id, upload_id))

    async def _receive(
        self, upload: UpdateUpload, file: PartialFile, appended: Appended
    ) -> Participation | None:
        """What the body brings, in the file; the part once that is whole."""
        head = _Head(self, upload, file)
        await head.check(appended.size)
        request, pace = self.desk.request, Pace.of(self.premises.settings)
        await write_body(request, pace, appended, lambda: head.check(appended.size))
        await head.check(appended.size)
        if appended.size < upload.size:
            return None
        try:
            return await self._submitted(upload, file, appended.sha256)
        except FileNotFoundError:
            raise UploadNotFound from None

    async def _submitted(self, upload: UpdateUpload, file: PartialFile, known: str | None) -> Participation:
        """The part with what has come. Raises UploadNotFound, FileNotFoundError when it was forgotten."""
        digest = await asyncio.to_thread(file.digest, upload.sha256, known)
        arrived = await asyncio.to_thread(self.desk.checked, self.round_id, file.path, digest, upload.size)
        part = self.desk.keep(self.round_id, arrived, lambda: file.adopt(digest))
        file.forget()
        return part

    async def _judged(self, found: Arriving) -> Arriving:
        part = None if found.part is None else await self.desk.verdict(found.part)
        return Arriving(found.upload, found.size, found.offset, part)

    def _is_wanted(self, upload: UpdateUpload) -> bool:
        with self.premises.database.read() as session:
            return session.get(UpdateUpload, upload.id) is not None

    def _room(self, session: Session) -> UpdateUploads:
        return UpdateUploads(session, self.premises.folder, self.premises.blobs)


class _Head:
    """The head of an update that is arriving: looked at once, as soon as it is all there."""

    def __init__(self, desk: UploadDesk, upload: UpdateUpload, file: PartialFile) -> None:
        self.desk = desk
        self.upload = upload
        self.file = file
        self.is_checked = False

    async def check(self, arrived: int) -> None:
        """Raises EnvelopeBroken, RoundNotOpen, SecureAggregationRefused."""
        if not self.is_checked and arrived >= min(MOST_HEAD_BYTES, self.upload.size):
            self.is_checked = True
            await asyncio.to_thread(self._check)

    def _check(self) -> None:
        premises = self.desk.premises
        with self.file.path.open("rb") as file, premises.database.read() as session:
            head, _ = self.desk.desk.head(session, self.desk.round_id, file)
        if head.total_bytes != self.upload.size:
            raise EnvelopeBroken("it has another size than was announced")


async def _desk(round_id: RoundId, desk: TheSubmissionDesk) -> UploadDesk:
    return UploadDesk(desk, round_id)


TheUploadDesk = Annotated[UploadDesk, Depends(_desk)]
