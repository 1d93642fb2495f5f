"""AITIP's routes for datasets: S1-04 … S1-06."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from starlette.requests import Request

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.aitip.errors import AITIP_FAILURES, AitipRoute
from tg_workbench.contracts.aitip.schemas import Success
from tg_workbench.contracts.dataset_files import TheFile, form_with_file
from tg_workbench.contracts.downloads import Download
from tg_workbench.contracts.providers import DatasetId, DatasetsRoom, PageNumber, SignedIn
from tg_workbench.contracts.route import audited, needs
from tg_workbench.datasets import Dataset, Page

router = APIRouter(
    prefix="/api/v1/datasets", route_class=AitipRoute, tags=["AITIP"], responses=AITIP_FAILURES
)


class DatasetView(BaseModel):
    """A dataset; `format` is that of its file."""

    id: str
    name: str
    format: str
    size_bytes: int
    created_at: str

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetView:
        """A dataset of the room. Before a file was looked at, its name says what it is."""
        suffix = (dataset.file_name or "").rpartition(".")[2].lower()
        return cls(
            id=dataset.id,
            name=dataset.name,
            format=dataset.file_format or dataset.format or suffix,
            size_bytes=dataset.file_size or 0,
            created_at=utc(dataset.created_at),
        )


class PageMeta(BaseModel):
    """Which page this is, and of how many things."""

    page: int
    page_size: int
    total: int


class DatasetPage(Success[list[DatasetView]]):
    """A page of datasets."""

    meta: PageMeta


@router.get("")
async def list_datasets(
    owner: SignedIn,
    datasets: DatasetsRoom,
    page: PageNumber = 1,
    page_size: Annotated[int, Query(ge=1, le=100, description="Items per page.")] = 20,
) -> DatasetPage:
    """List datasets, the newest first."""
    found, total = datasets.list_page(owner, Page(page_size, (page - 1) * page_size))
    meta = PageMeta(page=page, page_size=page_size, total=total)
    return DatasetPage(data=[DatasetView.of(dataset) for dataset in found], meta=meta)


@router.post("", status_code=201, openapi_extra=form_with_file("name"))
@needs("datasets")
async def create_dataset(file: TheFile, owner: SignedIn, datasets: DatasetsRoom) -> Success[DatasetView]:
    """Create a dataset by uploading its file. It can be learned from once it has been looked at."""
    return Success(data=DatasetView.of(file.become_dataset(owner, datasets)))


@router.get(
    "/{dataset_id}/download",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The uploaded file."}},
)
@audited
async def download_dataset(
    dataset_id: DatasetId, owner: SignedIn, datasets: DatasetsRoom, request: Request
) -> Response:
    """Download a dataset as it was uploaded, or the part that a Range asks for."""
    return Download.of(datasets, datasets.get(owner, dataset_id)).check(request)
