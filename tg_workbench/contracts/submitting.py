"""An update as it arrives: signed by its device, sealed to its round, kept only if it is whole.

The body goes to the disk as it comes. Then its manifest is verified and every chunk of it opened, in a thread
and in constant memory, so a sender hears at once of what was changed, cut off or meant for something else;
nothing of what was opened is kept. What its numbers are worth the worker says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import Depends
from sqlmodel import Session
from starlette.requests import Request

from tg_workbench.contracts.bodies import media_type
from tg_workbench.contracts.failures import BodyTooLarge
from tg_workbench.contracts.pieces import Pace, Pieces, chunks_of
from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.contracts.route import PRINCIPAL
from tg_workbench.contracts.waiting import Waiting
from tg_workbench.crypto.envelopes import MOST_JSON_BYTES, VerifiedHead, from_json, open_payload, read_head
from tg_workbench.errors import (
    EnvelopeBroken,
    SealBroken,
    UpdateAlreadySubmitted,
    WorkbenchError,
)
from tg_workbench.events import Events, UpdateRefused, tenant_subject
from tg_workbench.federation.devices import DeviceSignIn, ServerKeys, SignedDevice
from tg_workbench.federation.rounds import (
    Arrived,
    Part,
    Participation,
    Round,
    Rounds,
    Signer,
    Submissions,
)
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.submissions import require_named_compression, verifying_key
from tg_workbench.storage import BlobWriter

JSON = "application/json"
TOLD = (EnvelopeBroken, UpdateAlreadySubmitted, BodyTooLarge)
"""What no honest device sends."""
VERDICT_SECONDS = 10.0
"""How long an answer waits for the worker's verdict. The update is kept by then."""


class SubmissionDesk:
    """Takes in the update of one device, for one request."""

    def __init__(self, request: Request, premises: Premises, device: SignedDevice) -> None:
        self.request = request
        self.premises = premises
        self.device = device

    async def take(self, round_id: str) -> Participation:
        """The device's part once its update was looked into, or as it is after a while.

        Raises RoundNotFound, RoundNotOpen, EnvelopeBroken, UpdateAlreadySubmitted, UpdateRejected,
        BodyTooLarge, QuotaExceeded, StorageFull.
        """
        premises, device = self.premises, self.device.device
        with premises.database.read() as session:
            submissions = self._room(session)
            round_, _, _ = submissions.rounds.for_device(device, round_id)
            most = submissions.most_bytes(round_)
        async with premises.update_intake.place(device.id):
            with premises.blobs.writer() as writer, self.telling(round_id):
                await self._receive(writer, most)
                digest = await asyncio.to_thread(writer.finish)
                arrived = await asyncio.to_thread(self.checked, round_id, writer.path, digest, writer.size)
                part = self.keep(round_id, arrived, writer.keep)
        return await self.verdict(part)

    def head(self, session: Session, round_id: str, file: BinaryIO) -> tuple[VerifiedHead, Round]:
        """The head of an envelope that this device has signed, for this round. Raises EnvelopeBroken."""
        device = self.device.device
        head = read_head(file)
        verified = head.verify(verifying_key(session, device.id, head.manifest.key_version))
        return verified, self._room(session).admit(device, round_id, verified.manifest)

    def checked(self, round_id: str, path: Path, digest: str, size: int) -> Arrived:
        """An envelope that is whole, and this device's, for this round. Raises EnvelopeBroken."""
        premises, device = self.premises, self.device.device
        with path.open("rb") as file:
            with premises.database.read() as session:
                head, round_ = self.head(session, round_id, file)
                known = Rounds(session, premises.folder, premises.blobs).part_of(device, round_)
                if known is not None and known.digest == digest:  # sent again: it was opened then
                    return Arrived(digest, size, head.manifest)
                try:
                    keys = RoundKeys.of(session, premises.settings.home, round_)
                except SealBroken:
                    raise EnvelopeBroken("its round is over, and its keys are destroyed") from None
            pieces = open_payload(head, file, keys.opening)
            require_named_compression(head.manifest, next(pieces))
            for _ in pieces:
                pass
        return Arrived(digest, size, head.manifest)

    def keep(self, round_id: str, arrived: Arrived, settle: Callable[[], object]) -> Participation:
        """The device's part with this update, of which `settle` makes a blob.

        Raises RoundNotOpen, UpdateAlreadySubmitted.
        """
        premises, device = self.premises, self.device.device
        with premises.database.write() as session:  # should this process die, the file goes in an hour
            self._room(session).announce(device, round_id, arrived.blob)
        with premises.database.write(durable=True) as session:
            signer = Signer.of(ServerKeys(session, premises.settings.home))
            part = self._room(session).keep(device, round_id, arrived, signer)
            if part.blob is not None:  # one that was rejected, or whose round is over, is not brought back
                settle()
        return part

    async def verdict(self, part: Participation) -> Participation:
        """The part once the worker has looked into it, or as it is after a while.

        Raises UpdateRejected, and RoundNotOpen where it was dropped meanwhile.
        """
        with self.premises.database.read() as session:
            campaign_id = session.get_one(Round, part.round_id).campaign_id
            self._room(session).require_good(part)
        return await Waiting(self.premises, campaign_id).settled(
            part,
            VERDICT_SECONDS,
            look=lambda session: self._room(session).require_good(session.get_one(Participation, part.id)),
            is_settled=lambda seen: seen.status != Part.SUBMITTED,
        )

    @contextmanager
    def telling(self, round_id: str) -> Iterator[None]:
        """A block in which what is refused at the door is told to those who watch over the organisation."""
        try:
            yield
        except TOLD as failure:
            self._note(round_id, failure)
            raise

    async def _receive(self, writer: BlobWriter, most: int) -> None:
        """The body, in the file, as an envelope. Raises BodyTooLarge, EnvelopeBroken, InvalidRequest."""
        if media_type(self.request) == JSON:
            text, longest = bytearray(), 2 * min(most, MOST_JSON_BYTES)
            async for chunk in chunks_of(self.request, Pace.of(self.premises.settings)):
                text += chunk
                if len(text) > longest:
                    raise BodyTooLarge("an update of this size is sent as application/octet-stream")
            writer.write(await asyncio.to_thread(from_json, bytes(text)))
            return
        announced = self.request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > most:
            raise BodyTooLarge(f"an update for this round has at most {most:,} bytes")
        pieces, size = Pieces(writer.write), 0
        async for chunk in chunks_of(self.request, Pace.of(self.premises.settings)):
            size += len(chunk)
            if size > most:
                raise BodyTooLarge(f"an update for this round has at most {most:,} bytes")
            pieces.add(chunk)
            await pieces.pass_on()
        await pieces.pass_on(all_of_it=True)

    def _room(self, session: Session) -> Submissions:
        return Submissions(session, self.premises.folder, self.premises.blobs)

    def _note(self, round_id: str, failure: WorkbenchError) -> None:
        device = self.device.device
        reason = str(failure.details.get("reason", failure))
        with self.premises.database.write() as session:
            fact = UpdateRefused(round_id, device.id, reason)
            Events(session).record(tenant_subject(device.organization_id), fact)


async def submission_desk(request: Request) -> SubmissionDesk:
    """Whoever the door has let in, in a session of its own: one as long as the request would lock all."""
    premises = premises_of(request)
    with premises.database.read() as session:
        device = DeviceSignIn(session).again(request.scope[PRINCIPAL])
    return SubmissionDesk(request, premises, device)


TheSubmissionDesk = Annotated[SubmissionDesk, Depends(submission_desk)]
