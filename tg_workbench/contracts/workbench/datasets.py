"""Our own routes for datasets: hand over rows or a file, whole or in pieces, and get it back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.requests import Request

from tg_workbench.contracts.bodies import described
from tg_workbench.contracts.dataset_files import TheFile, form_with_file
from tg_workbench.contracts.downloads import Download
from tg_workbench.contracts.failures import BodyTooLarge
from tg_workbench.contracts.multipart import file_name_of
from tg_workbench.contracts.pieces import OCTETS, Pace, offset_of, write_body
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import (
    ClientsRoom,
    DatasetId,
    DatasetsRoom,
    Limit,
    Offset,
    SignedIn,
    ThePremises,
    UploadId,
    UploadOffset,
    UploadsRoom,
)
from tg_workbench.contracts.route import FAILURES, audited, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.uploads import ReceivedDataset
from tg_workbench.contracts.workbench import dataset_views as views
from tg_workbench.contracts.workbench import schemas
from tg_workbench.datasets import Datasets, Page, Upload, Uploads
from tg_workbench.identity import Principal
from tg_workbench.storage import LeftBlobs

router = APIRouter(
    prefix="/workbench/v1/datasets", route_class=WorkbenchRoute, tags=["Workbench"], responses=FAILURES
)
uploads = APIRouter(
    prefix="/workbench/v1/uploads", route_class=WorkbenchRoute, tags=["Workbench"], responses=FAILURES
)
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {OCTETS: {}}, "description": "The file as it was uploaded."}
}


# ----------------------------------------------------------------------------- datasets
@router.post("", status_code=201, openapi_extra=described(schemas.Texts))
@needs("datasets")
async def register_dataset(
    received: ReceivedDataset, owner: SignedIn, datasets: DatasetsRoom
) -> views.DatasetView:
    """Hand over a dataset: tensors in a safetensors body, or texts in JSON.

    Features of type U8 are the pixels of images, and read as value / 255.
    """
    return views.DatasetView.of(datasets.register(owner, received))


@router.post("/files", status_code=201, openapi_extra=form_with_file("name"))
@needs("datasets")
async def upload_dataset_file(file: TheFile, owner: SignedIn, datasets: DatasetsRoom) -> views.DatasetView:
    """Hand over a file: CSV, JSON, JSON Lines, Parquet, or a ZIP. It is `processing` at first."""
    return views.DatasetView.of(file.become_dataset(owner, datasets))


@router.get("")
async def list_datasets(
    owner: SignedIn,
    datasets: DatasetsRoom,
    limit: Limit = 50,
    offset: Offset = 0,
    name: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
) -> views.DatasetList:
    """List your datasets, the newest first; with a `name`, its versions."""
    page, total = datasets.list_page(owner, Page(limit, offset, name=name))
    shown = [views.DatasetView.of(dataset) for dataset in page]
    return views.DatasetList(datasets=shown, total=total, limit=limit, offset=offset)


@router.get("/{dataset_id}")
async def get_dataset(dataset_id: DatasetId, owner: SignedIn, datasets: DatasetsRoom) -> views.DatasetDetail:
    """A dataset's policy, what it has cost so far, and what is in it."""
    return views.DatasetDetail.of(datasets.get(owner, dataset_id))


@router.get("/{dataset_id}/download", response_class=Response, responses=BYTES)
@audited
async def download_dataset(
    dataset_id: DatasetId, owner: SignedIn, datasets: DatasetsRoom, request: Request
) -> Response:
    """The file as you uploaded it, or the part that a Range asks for."""
    return Download.of(datasets, datasets.get(owner, dataset_id)).check(request)


@router.delete("/{dataset_id}")
@needs("datasets")
async def delete_dataset(
    dataset_id: DatasetId, owner: SignedIn, datasets: DatasetsRoom, clients: ClientsRoom
) -> schemas.Deleted:
    """Forget a dataset's rows and its file; its ledger stays."""
    datasets.delete(owner, dataset_id, users=clients.users_of(dataset_id))
    return schemas.Deleted()


# ----------------------------------------------------------------------------- files in pieces
@uploads.post("", status_code=201)
@needs("datasets")
async def begin_upload(
    body: views.BeginUpload, owner: SignedIn, premises: ThePremises, room: UploadsRoom, answer: Response
) -> views.UploadView:
    """Announce a file that comes in pieces. Send them with PATCH; what has not come in a day is forgotten.

    The same again, with its `sha256`, goes on with what was begun: who has lost the answer, or was stopped.
    """
    if body.size > premises.settings.max_upload_bytes:
        raise BodyTooLarge(f"a file may have {premises.settings.max_upload_bytes} bytes here")
    spec = body.as_spec(file_name_of(body.file_name))
    upload = room.begin(owner, spec, body.size, body.sha256)
    return _shown(upload, room.offset(upload), answer)


@uploads.get("/{upload_id}")
async def get_upload(
    upload_id: UploadId, owner: SignedIn, room: UploadsRoom, answer: Response
) -> views.UploadView:
    """How much of it is here; HEAD says it in the header `Upload-Offset`."""
    upload = room.get(owner, upload_id)
    return _shown(upload, room.offset(upload), answer)


@uploads.patch(
    "/{upload_id}",
    openapi_extra={"requestBody": {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}},
)
@needs("datasets")
async def send_piece(
    upload_id: UploadId, owner: SignedIn, request: Request, answer: Response, offset: UploadOffset = None
) -> views.UploadView:
    """Send what follows. With the last byte the file becomes a dataset, `processing` at first."""
    desk = _Desk(request.app.state.premises, owner, upload_id)
    return _shown(*await desk.take(request, offset), answer)


@uploads.delete("/{upload_id}")
@needs("datasets")
async def delete_upload(upload_id: UploadId, owner: SignedIn, room: UploadsRoom) -> schemas.Deleted:
    """Forget an upload and what has come of it."""
    room.delete(owner, upload_id)
    return schemas.Deleted()


def _shown(upload: Upload, offset: int, answer: Response) -> views.UploadView:
    answer.headers["Upload-Offset"] = str(offset)
    answer.headers["Cache-Control"] = "no-store"
    return views.UploadView.of(upload, offset)


class _Desk:
    """Takes pieces of one upload, without a transaction while they come."""

    def __init__(self, premises: Premises, owner: Principal, upload_id: str) -> None:
        self.premises = premises
        self.owner = owner
        self.upload_id = upload_id

    async def take(self, request: Request, offset: int | None) -> tuple[Upload, int]:
        """The upload after a piece, and how much of it is here. Raises what the room does."""
        with self._room(write=False) as room:
            upload = room.get(self.owner, self.upload_id)
            file = room.file(upload)
        if upload.dataset_id is not None:
            return upload, upload.size
        offset = offset_of(request, offset)
        with self.premises.intake.place(self.owner.id), file.appending(offset, upload.size) as appended:
            await write_body(request, Pace.of(self.premises.settings), appended)
        if appended.size < upload.size:
            with self._room(write=False) as room:  # it may have been forgotten meanwhile
                upload = room.get(self.owner, self.upload_id)
                return upload, room.offset(upload)
        source = await asyncio.to_thread(file.digest, upload.sha256, appended.sha256)
        # should this process die before the file is a dataset's, it goes in an hour
        await asyncio.to_thread(LeftBlobs.announce, self.premises.database, self.premises.blobs, source)
        with self._room(write=True) as room:
            room.complete(self.owner, self.upload_id, source)
            return room.get(self.owner, self.upload_id), upload.size

    @contextmanager
    def _room(self, *, write: bool) -> Iterator[Uploads]:
        database = self.premises.database
        with database.write() if write else database.read() as session:
            yield Uploads(session, Datasets(session, self.premises.blobs, self.premises.folder))
