"""Where a device sends a large update in pieces, and goes on where it was when the line broke."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from tg_workbench.contracts.pieces import OCTETS
from tg_workbench.contracts.providers import UpdateUploadId, UploadOffset
from tg_workbench.contracts.qflare.round_schemas import Submitted
from tg_workbench.contracts.resuming import Arriving, TheUploadDesk
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.workbench.schemas import Deleted
from tg_workbench.identity import DEVICE

router = APIRouter(
    prefix="/workbench/v1/federation/rounds/{round_id}/uploads",
    route_class=WorkbenchRoute,
    tags=["Federation"],
    responses=FAILURES,
)


class BeginUpdate(ExactForm):
    """A sealed update that will come in pieces: how many bytes it has, and their SHA-256."""

    size: int = Field(ge=1, le=2**53)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UpdateUploadView(View):
    """An update that is arriving; `submitted` once it is here, with the receipt."""

    upload_id: str | None
    size: int
    offset: int
    created_at: str | None
    expires_at: str | None
    submitted: Submitted | None


@router.post("", status_code=201)
@needs(DEVICE)
async def begin_update(body: BeginUpdate, desk: TheUploadDesk, answer: Response) -> UpdateUploadView:
    """Announce an update. Send it with PATCH; the same again goes on, another one takes its place.

    Without `upload_id` there is nothing to be sent: these bytes were submitted before.
    """
    return _shown(await desk.begin(body.size, body.sha256), answer)


@router.get("/{upload_id}")
@needs(DEVICE)
async def get_update(upload_id: UpdateUploadId, desk: TheUploadDesk, answer: Response) -> UpdateUploadView:
    """How much of it is here; HEAD says it in the header `Upload-Offset`."""
    return _shown(desk.look(upload_id), answer)


@router.patch(
    "/{upload_id}",
    openapi_extra={"requestBody": {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}},
)
@needs(DEVICE)
async def send_update(
    upload_id: UpdateUploadId, desk: TheUploadDesk, answer: Response, offset: UploadOffset = None
) -> UpdateUploadView:
    """Send what follows. With the last byte the update is submitted, as if it had come at once."""
    return _shown(await desk.take(upload_id, offset), answer)


@router.delete("/{upload_id}")
@needs(DEVICE)
async def delete_update(upload_id: UpdateUploadId, desk: TheUploadDesk) -> Deleted:
    """Forget what has come of an update; what was submitted stays."""
    desk.delete(upload_id)
    return Deleted()


def _shown(found: Arriving, answer: Response) -> UpdateUploadView:
    answer.headers["Upload-Offset"] = str(found.offset)
    answer.headers["Cache-Control"] = "no-store"
    upload = found.upload
    return UpdateUploadView(
        upload_id=None if upload is None else upload.id,
        size=found.size,
        offset=found.offset,
        created_at=None if upload is None else iso(upload.created_at),
        expires_at=None if upload is None else iso(upload.expires_at),
        submitted=None if found.part is None else Submitted.of(found.part),
    )
