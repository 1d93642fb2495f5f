"""Datasets and uploads as our own contract tells of them; never with rows of a protected set."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from tg_workbench.contracts.dataset_files import DatasetFields
from tg_workbench.contracts.multipart import LONGEST_FILE_NAME
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.workbench.schemas import Privacy
from tg_workbench.datasets import Because, Dataset, Upload

_SAME = {
    *("name", "version", "description", "status", "reason", "privacy", "dataset_type", "target"),
    *("file_name", "file_size", "file_format", "unit", "relation", "epsilon_cap"),
    *("population", "population_because", "spent_epsilon", "units"),
}
_OF_ENCODING = ("kind", "task", "target", "class_names", "image_shape")


class BeginUpload(DatasetFields):
    """A file that will come in pieces. `sha256` has it checked when it is here."""

    file_name: str = Field(min_length=1, max_length=LONGEST_FILE_NAME)
    size: int = Field(ge=1, le=2**53)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class DatasetView(View):
    """A dataset and its privacy policy. Of one that is not ready, nothing is known of its rows yet."""

    dataset_id: str
    name: str
    version: int
    """Of those with this name."""
    description: str | None
    status: Literal["processing", "ready", "failed"]
    reason: str | None
    privacy: Privacy
    dataset_type: str | None
    target: str | None
    file_name: str | None
    file_size: int | None
    file_format: str | None
    format: str | None
    population: str
    population_because: Because | None
    """Why it is in this one: it has the same rows, or the name of a version before; null while it is read."""
    unit: str
    relation: str
    delta: float | None
    epsilon_cap: float
    spent_epsilon: float
    size: int | None
    units: int | None
    """How many units own the rows; null: every row is one."""
    tensors: dict[str, Any] | None
    created_at: str

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetView:
        """A dataset of the room."""
        return cls(**_told(dataset))


class DatasetDetail(DatasetView):
    """A dataset and what is in it, for its owner: `profile` is not covered by ε."""

    profile: dict[str, Any] | None
    encoding: dict[str, Any] | None
    preview: list[dict[str, Any]] | None
    """The first rows, of public sets only."""

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetDetail:
        """A dataset of the room."""
        profile = dict(dataset.profile) if dataset.profile is not None else None
        preview = profile.pop("preview", None) if profile is not None else None
        return cls(
            **_told(dataset),
            profile=None if profile is None else {"covered_by_epsilon": False, **profile},
            encoding=None if dataset.encoding is None else _reading(dataset.encoding),
            preview=preview if dataset.privacy == "public" else None,
        )


class DatasetList(View):
    """A page of datasets, the newest first."""

    datasets: list[DatasetView]
    total: int
    limit: int
    offset: int


class UploadView(View):
    """A file that is arriving; `dataset` once it has arrived."""

    upload_id: str
    size: int
    offset: int
    created_at: str
    expires_at: str
    dataset_id: str | None

    @classmethod
    def of(cls, upload: Upload, offset: int) -> UploadView:
        """An upload of the room."""
        return cls(
            upload_id=upload.id,
            size=upload.size,
            offset=offset,
            created_at=iso(upload.created_at),
            expires_at=iso(upload.expires_at),
            dataset_id=upload.dataset_id,
        )


def _reading(encoding: dict[str, Any]) -> dict[str, Any]:
    """How raw rows are read: which columns, in which order, and what the classes are called."""
    inputs = [column["name"] for column in encoding["columns"]]
    return {**{name: encoding[name] for name in _OF_ENCODING}, "inputs": inputs}


def _told(dataset: Dataset) -> dict[str, Any]:
    ready = dataset.is_ready
    return {
        **dataset.model_dump(include=_SAME),
        "dataset_id": dataset.id,
        "format": dataset.format if ready else None,
        "size": dataset.size if ready else None,
        "delta": dataset.delta if ready else None,
        "tensors": json.loads(dataset.tensors) if dataset.tensors else None,
        "created_at": iso(dataset.created_at),
    }
