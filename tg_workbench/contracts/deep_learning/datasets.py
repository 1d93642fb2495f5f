"""The Deep Learning Platform's routes for datasets: S3-05 … S3-08."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.dataset_files import TypedFile, form_with_file
from tg_workbench.contracts.deep_learning.errors import DEEP_LEARNING_FAILURES, DeepLearningRoute
from tg_workbench.contracts.providers import ClientsRoom, DatasetId, DatasetsRoom, PageNumber, SignedIn
from tg_workbench.contracts.route import needs
from tg_workbench.datasets import Dataset, Page, SortKey

router = APIRouter(
    prefix="/datasets",
    route_class=DeepLearningRoute,
    tags=["Deep Learning Platform"],
    responses=DEEP_LEARNING_FAILURES,
)


class DatasetView(BaseModel):
    """A dataset."""

    id: str
    name: str
    description: str | None
    dataset_type: str | None
    file_size: int
    uploaded_at: str
    status: Literal["processing", "ready", "failed"]

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetView:
        """A dataset of the room."""
        return cls(**_told(dataset))


class Metadata(BaseModel):
    """What is in the file."""

    rows: int
    columns: int
    features: list[str]
    target: str | None

    @classmethod
    def of(cls, dataset: Dataset) -> Metadata:
        """That of a dataset that is ready. Images and texts are one column, and their class another."""
        profile = dataset.profile or {}
        beside = {dataset.target, profile.get("unit_column")}
        names = [column["name"] for column in profile.get("columns", ())]
        features = [name for name in names if name not in beside]
        if not names:
            features = [{"images": "image", "texts": "text"}.get(profile.get("kind", ""), dataset.format)]
        columns = len(names) or len(features) + (dataset.target is not None)
        return cls(rows=dataset.size, columns=columns, features=features, target=dataset.target)


class DatasetDetail(DatasetView):
    """A dataset and what is in it: null as long as nobody has looked. One that failed says why."""

    metadata: Metadata | None
    reason: str | None = Field(None, description="Of `failed`: what is wrong with the file, and where.")

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetDetail:
        """A dataset of the room."""
        told = _told(dataset) if dataset.reason is None else {**_told(dataset), "reason": dataset.reason}
        return cls(**told, metadata=Metadata.of(dataset) if dataset.is_ready else None)


class DatasetList(BaseModel):
    """A page of datasets."""

    total: int
    page: int
    limit: int
    datasets: list[DatasetView]


@router.post("/upload", status_code=201, openapi_extra=form_with_file("name", "dataset_type"))
@needs("datasets")
async def upload_dataset(file: TypedFile, owner: SignedIn, datasets: DatasetsRoom) -> DatasetView:
    """Upload a new dataset for training."""
    return DatasetView.of(file.become_dataset(owner, datasets))


@router.get("")
async def list_datasets(
    owner: SignedIn,
    datasets: DatasetsRoom,
    page: PageNumber = 1,
    limit: Annotated[int, Query(ge=1, le=100, description="Items per page.")] = 10,
    sort_by: SortKey = "created_at",
    order: Literal["asc", "desc"] = "desc",
) -> DatasetList:
    """List all available datasets for the authenticated user."""
    asked = Page(limit, (page - 1) * limit, sort_by, order == "desc")
    found, total = datasets.list_page(owner, asked)
    shown = [DatasetView.of(dataset) for dataset in found]
    return DatasetList(total=total, page=page, limit=limit, datasets=shown)


@router.get("/{dataset_id}", response_model_exclude_unset=True)
async def get_dataset(dataset_id: DatasetId, owner: SignedIn, datasets: DatasetsRoom) -> DatasetDetail:
    """Get detailed information about a specific dataset."""
    return DatasetDetail.of(datasets.get(owner, dataset_id))


@router.delete("/{dataset_id}", status_code=204)
@needs("datasets")
async def delete_dataset(
    dataset_id: DatasetId, owner: SignedIn, datasets: DatasetsRoom, clients: ClientsRoom
) -> None:
    """Delete a dataset."""
    datasets.delete(owner, dataset_id, users=clients.users_of(dataset_id))


def _told(dataset: Dataset) -> dict[str, Any]:
    return {
        **dataset.model_dump(include={"id", "name", "description", "dataset_type", "status"}),
        "file_size": dataset.file_size or 0,
        "uploaded_at": utc(dataset.created_at),
    }
