"""A dataset's file as it arrives in a form, and what its owner says of it: the same in every contract.

The document's own fields are `file`, `name`, `description` and `dataset_type`; the others are ours, and may
all be left out. A field that nobody knows is refused, so that no typo loosens a policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, Field, ValidationError
from starlette.requests import Request

from tg_workbench.contracts.multipart import FormReader, read_form_with_file
from tg_workbench.contracts.pieces import Pace
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import IdempotencyKey, SignedIn, ThePremises
from tg_workbench.contracts.strict_json import parse
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Id
from tg_workbench.contracts.workbench.schemas import Privacy, UnitName
from tg_workbench.datasets import Dataset, Datasets, FileSpec, is_named
from tg_workbench.errors import InvalidRequest
from tg_workbench.identity import Principal
from tg_workbench.storage import BlobWriter, LeftBlobs
from tg_workbench.storage.database import passes_by

NUMBERS, OBJECTS = ("delta", "epsilon_cap"), ("classes", "ranges", "categories")
POPULATION = (
    "A dataset that is about the same people: they share one budget. Left out, a new version of a protected "
    "name shares that of the version before; `new` says that it is about other people."
)
Column = Annotated[str, Field(min_length=1, max_length=128)]
Word = Annotated[str, Field(min_length=1, max_length=128)]


def _rising(pair: list[float]) -> list[float]:
    if pair[0] >= pair[1]:
        raise ValueError("the smallest value comes first")
    return pair


Range = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_rising),
]


class DatasetFields(ExactForm):
    """What can be said of a file. In a form `classes`, `ranges` and `categories` are JSON."""

    name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    dataset_type: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9 _-]{0,63}$")
    privacy: Privacy = "protected"
    delta: float | None = Field(default=None, gt=0, lt=1)
    epsilon_cap: float | None = Field(default=None, gt=0, le=1_000)
    population: Id | None = None
    unit: UnitName | None = None
    unit_column: Column | None = None
    text_column: Column | None = None
    target: Column | None = None
    classes: Annotated[list[Word], Field(min_length=1, max_length=1_000)] | None = None
    ranges: Annotated[dict[Column, Range], Field(max_length=4_096)] = Field(default_factory=dict)
    categories: Annotated[
        dict[Column, Annotated[list[Word], Field(min_length=1, max_length=1_000)]],
        Field(max_length=4_096),
    ] = Field(default_factory=dict)

    def as_spec(self, file_name: str) -> FileSpec:
        """The room's value."""
        told = self.model_dump(include=set(DatasetFields.model_fields), exclude={*OBJECTS})
        return FileSpec(
            **told,
            file_name=file_name,
            classes=None if self.classes is None else tuple(self.classes),
            ranges={name: (low, high) for name, (low, high) in self.ranges.items()},
            categories={name: tuple(values) for name, values in self.categories.items()},
        )


def fields_of(form: FormReader, *, required: tuple[str, ...] = ()) -> DatasetFields:
    """A form's fields; one without a value is none. Raises RequestValidationError."""
    told: dict[str, Any] = {name: value for name, value in form.fields.items() if value}
    if "name" not in required:
        told.setdefault("name", form.file_name)
    problems = [_problem(name, "missing", "Field required") for name in required if name not in told]
    for name in told.keys() & {*NUMBERS, *OBJECTS}:
        try:
            told[name] = float(told[name]) if name in NUMBERS else parse(told[name].encode())
        except ValueError:
            wanted = "a number" if name in NUMBERS else "JSON"
            problems.append(_problem(name, "value_error", f"Input should be {wanted}"))
    if problems:
        raise RequestValidationError(problems)
    try:
        return DatasetFields.model_validate(told)
    except ValidationError as failure:
        errors = failure.errors(include_url=False, include_input=False, include_context=False)
        told_of = [{**error, "loc": ("body", *error["loc"])} for error in errors]
        raise RequestValidationError(told_of) from None


def _problem(name: str, kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ("body", name), "msg": message}


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that is here, but no blob yet, and what was said of it."""

    spec: FileSpec
    writer: BlobWriter
    idempotency_key: str | None

    def become_dataset(self, owner: Principal, datasets: Datasets) -> Dataset:
        """Keep the file, in the transaction that makes it a dataset. Raises what `Datasets.upload` does."""
        source, size = self.writer.finish(), self.writer.size
        dataset = datasets.upload(owner, self.spec, source, size, self.idempotency_key)
        if dataset.deleted_at is None:  # a retry does not bring back what was deleted
            self.writer.keep()
        return dataset


@asynccontextmanager
async def receiving(
    request: Request, premises: Premises, owner: Principal, required: tuple[str, ...]
) -> AsyncIterator[tuple[DatasetFields, str, BlobWriter]]:
    """What is said in a form, the file's name, and the file, on disk; if the block fails, nothing stays.

    Raises InvalidRequest, RequestValidationError, BodyTooLarge, UploadTooSlow, QuotaExceeded, StorageFull.
    """
    with premises.intake.place(owner.id), premises.blobs.writer() as writer:
        form = await read_form_with_file(request, Pace.of(premises.settings), writer.write)
        fields = fields_of(form, required=required)
        if not writer.size:
            raise InvalidRequest("the file is empty")
        digest = await asyncio.to_thread(writer.finish)
        try:
            yield fields, form.file_name or "", writer
        except BaseException:
            _forget_unless_named(premises, digest)
            raise


def _forget_unless_named(premises: Premises, digest: str) -> None:
    """A blob that was kept for a dataset that then could not be stored goes again."""
    with premises.database.write() as session:
        passes_by(session)
        if not is_named(session, digest):
            premises.blobs.delete(digest)


def received(*required: str) -> Callable[..., AsyncIterator[ReceivedFile]]:
    """A dependency that receives a file, with some fields that must be there."""

    async def receive(
        request: Request, premises: ThePremises, owner: SignedIn, key: IdempotencyKey = None
    ) -> AsyncIterator[ReceivedFile]:
        async with receiving(request, premises, owner, required) as (fields, file_name, writer):
            # should this process die before the file is a dataset's, it goes in an hour
            digest = await asyncio.to_thread(writer.finish)
            await asyncio.to_thread(LeftBlobs.announce, premises.database, premises.blobs, digest)
            yield ReceivedFile(fields.as_spec(file_name), writer, key)

    return receive


TheFile = Annotated[ReceivedFile, Depends(received("name"), scope="function")]
TypedFile = Annotated[ReceivedFile, Depends(received("name", "dataset_type"), scope="function")]
"""Ask for it before any room: a room's transaction must not be open while a file arrives."""

FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "name"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "CSV, JSON, JSON Lines, Parquet, ZIP."},
        "name": {"type": "string"},
        "description": {"type": "string"},
        "dataset_type": {"type": "string", "description": "classification, regression, …"},
        "privacy": {"type": "string", "enum": ["protected", "public"], "default": "protected"},
        **{name: {"type": "number"} for name in NUMBERS},
        "population": {"type": "string", "description": POPULATION},
        **{name: {"type": "string"} for name in ("unit", "unit_column", "text_column")},
        "target": {"type": "string", "description": "The column to predict."},
        "classes": {"type": "string", "description": "JSON: all class names there can be, in order."},
        "ranges": {"type": "string", "description": "JSON: the smallest and largest value by column."},
        "categories": {"type": "string", "description": "JSON: all values there can be, by column."},
    },
}


def form_with_file(*required: str) -> dict[str, Any]:
    """The OpenAPI words for such a body."""
    schema = {**FORM, "required": ["file", *required]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
