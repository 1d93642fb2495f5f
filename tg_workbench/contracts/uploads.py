"""A dataset as it arrives: tensors as the body and their policy in the query, or texts as JSON."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Query
from pydantic_core import to_json
from starlette.requests import Request

from tg_workbench.contracts.bodies import SAFETENSORS, media_type, read_json
from tg_workbench.contracts.heavy import off_loop
from tg_workbench.contracts.providers import AnyId, IdempotencyKey, ThePremises
from tg_workbench.contracts.strict_json import StrictRequest
from tg_workbench.contracts.workbench.schemas import Privacy, Texts, UnitName
from tg_workbench.datasets import UNIT_IDS, Content, DatasetSpec
from tg_workbench.errors import InvalidRequest
from tg_workbench.storage import LeftBlobs

Name = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Delta = Annotated[float | None, Query(gt=0, lt=1, allow_inf_nan=False)]
Cap = Annotated[float | None, Query(gt=0, le=1_000, allow_inf_nan=False)]


async def _received(
    request: Request,
    premises: ThePremises,
    name: Name = None,
    privacy: Annotated[Privacy, Query()] = "protected",
    delta: Delta = None,
    epsilon_cap: Cap = None,
    population: AnyId = None,
    unit: Annotated[UnitName | None, Query()] = None,
    key: IdempotencyKey = None,
) -> DatasetSpec:
    if media_type(request) == SAFETENSORS:
        if name is None:
            raise InvalidRequest("give the dataset a name: ?name=…")
        data = await request.body()
        content = await off_loop(request, Content.of_tensors, data)
        return DatasetSpec(name, content, privacy, delta, epsilon_cap, population, key, unit)
    if isinstance(request, StrictRequest):
        request.most_bytes = premises.settings.max_body_bytes
    form = await read_json(request, Texts)
    told = form.texts if form.unit_ids is None else {"texts": form.texts, UNIT_IDS: form.unit_ids}
    content = await off_loop(request, lambda: Content.of_texts(to_json(told)))
    policy = (form.privacy, form.delta, form.epsilon_cap, form.population)
    return DatasetSpec(form.name, content, *policy, key, form.unit)


async def _announced(spec: Annotated[DatasetSpec, Depends(_received)], premises: ThePremises) -> DatasetSpec:
    """Should this process die before the dataset is there, its rows go in an hour."""
    await asyncio.to_thread(LeftBlobs.announce, premises.database, premises.blobs, spec.content.digest)
    return spec


ReceivedDataset = Annotated[DatasetSpec, Depends(_announced)]
