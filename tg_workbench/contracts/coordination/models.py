"""API Coordination's search for models, S4-11: in the catalogue of this workbench, and never outside."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from tg_workbench.contracts.coordination.errors import COORDINATION_FAILURES, CoordinationRoute
from tg_workbench.contracts.deep_learning.models import ModelItem, ModelType, View
from tg_workbench.contracts.providers import AnyId, ModelsRoom, Offset, SignedIn
from tg_workbench.errors import InvalidRequest
from tg_workbench.models import Model, ModelQuery

router = APIRouter(
    prefix="/api/models",
    route_class=CoordinationRoute,
    tags=["API Coordination"],
    responses=COORDINATION_FAILURES,
)
LongText = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        description="What is in a name, a type or a task, or a dataset's id. All of them without it.",
    ),
]
ShortText = Annotated[
    str | None,
    Query(min_length=1, max_length=200, description="Another name of `query`: give one of them."),
]
Task = Annotated[str | None, Query(min_length=1, max_length=100)]
SearchLimit = Annotated[int, Query(ge=1, le=1000)]


def _text(query: LongText = None, q: ShortText = None) -> str | None:
    """What is looked for. The document names no parameter, and programs write the one or the other."""
    if query is not None and q is not None:
        raise InvalidRequest("q is another name of query: give one of them")
    return q if query is None else query


Text = Annotated[str | None, Depends(_text)]


class FoundModel(ModelItem):
    """A model that was found."""

    task: str
    dataset_id: str | None
    guarantee: str

    @classmethod
    def of(cls, model: Model) -> FoundModel:
        """A model of the room."""
        return cls(
            **dict(ModelItem.of(model)),
            task=model.task,
            dataset_id=model.dataset_id,
            guarantee=model.privacy.get("guarantee", "none"),
        )


class FoundModels(View):
    """A page of what was found, the newest first."""

    data: list[FoundModel]
    total: int
    limit: int
    offset: int


@router.get("/search")
async def search_models(
    owner: SignedIn,
    models: ModelsRoom,
    text: Text,
    model_type: ModelType = None,
    task: Task = None,
    dataset_id: AnyId = None,
    limit: SearchLimit = 20,
    offset: Offset = 0,
) -> FoundModels:
    """Search your models. No hub is asked: nothing leaves the machine."""
    query = ModelQuery(text=text, model_ref=model_type, task=task, dataset_id=dataset_id)
    found, total = models.list_page(owner, query, limit=limit, offset=offset)
    shown = [FoundModel.of(model) for model in found]
    return FoundModels(data=shown, total=total, limit=limit, offset=offset)
