"""API Coordination's route for datasets: S4-10. A file is looked at as an upload is, and forgotten."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import col, delete
from starlette.requests import Request

from tg_workbench.contracts.coordination.errors import COORDINATION_FAILURES, CoordinationRoute
from tg_workbench.contracts.dataset_files import form_with_file, receiving
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import SignedIn, ThePremises
from tg_workbench.contracts.route import asks_only
from tg_workbench.datasets import WORK_KIND, Check, Datasets, FileSpec
from tg_workbench.errors import ValidationUnfinished
from tg_workbench.execution import Turn, Work, request_worker
from tg_workbench.identity import Principal
from tg_workbench.storage import BlobWriter

LONGEST_SECONDS = 120.0
router = APIRouter(
    prefix="/api/datasets",
    route_class=CoordinationRoute,
    tags=["API Coordination"],
    responses=COORDINATION_FAILURES,
)


class FileProblem(BaseModel):
    """What is wrong, and where: a row, a column, a file of an archive, or `file`."""

    where: str
    problem: str


class Validation(BaseModel):
    """Whether a file could be uploaded as it is, and what is in it."""

    valid: bool
    errors: list[FileProblem]
    warnings: list[str]
    summary: dict[str, Any] | None


@router.post("/validate", openapi_extra=form_with_file())
@asks_only
async def validate_dataset(request: Request, owner: SignedIn, premises: ThePremises) -> Validation:
    """Validate a dataset before it is uploaded. Nothing of it is kept."""
    async with receiving(request, premises, owner, ()) as (fields, file_name, writer):
        spec = fields.as_spec(file_name)
        with premises.database.read() as session:
            Datasets(session, premises.blobs).expect(owner, spec)
        return Validation(**await _looked_at(premises, owner, spec, writer))


async def _looked_at(
    premises: Premises, owner: Principal, spec: FileSpec, file: BlobWriter
) -> dict[str, Any]:
    """What a worker says of a file. Raises ValidationUnfinished."""
    with Check.begun(premises.blobs, spec) as check:
        await asyncio.to_thread(os.link, file.path, check.file)
        with premises.database.write() as session:
            request_worker(session, premises.folder, check.work_id, WORK_KIND, Turn(owner.id, priority=1))
        try:
            return await _answer(premises, check)
        finally:
            with premises.database.write() as session:
                session.exec(delete(Work).where(col(Work.id) == check.work_id, col(Work.pid).is_(None)))


async def _answer(premises: Premises, check: Check) -> dict[str, Any]:
    deadline = time.monotonic() + LONGEST_SECONDS
    with premises.bells.listening(check.work_id) as rung:
        while (told := check.answered()) is None:
            if time.monotonic() > deadline or premises.stopping.is_set():
                raise ValidationUnfinished
            await premises.bells.heard(rung)
            rung.clear()
    return told
