"""A dataset as it arrives: tensors as the body and their policy in the query, or texts as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from pydantic_core import to_json
from starlette.requests import Request

from tg_workbench.contracts.bodies import SAFETENSORS, media_type, read_json
from tg_workbench.contracts.providers import AnyId, IdempotencyKey
from tg_workbench.contracts.workbench.schemas import Privacy, Texts
from tg_workbench.datasets import DatasetSpec
from tg_workbench.errors import InvalidRequest

Name = Annotated[str | None, Query(min_length=1, max_length=200)]
Delta = Annotated[float | None, Query(gt=0, lt=1, allow_inf_nan=False)]
Cap = Annotated[float | None, Query(gt=0, le=1_000, allow_inf_nan=False)]


async def _received(
    request: Request,
    name: Name = None,
    privacy: Annotated[Privacy, Query()] = "protected",
    delta: Delta = None,
    epsilon_cap: Cap = None,
    population: AnyId = None,
    key: IdempotencyKey = None,
) -> DatasetSpec:
    if media_type(request) == SAFETENSORS:
        if name is None:
            raise InvalidRequest("give the dataset a name: ?name=…")
        content = await request.body()
        return DatasetSpec(name, content, "safetensors", privacy, delta, epsilon_cap, population, key)
    form = await read_json(request, Texts)
    content = to_json(form.texts)
    policy = (form.privacy, form.delta, form.epsilon_cap, form.population)
    return DatasetSpec(form.name, content, "texts", *policy, key)


ReceivedDataset = Annotated[DatasetSpec, Depends(_received)]
