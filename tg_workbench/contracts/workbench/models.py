"""Our own routes of models: versions, aliases, cards and exports. There is none that takes a model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from tg_workbench.contracts.providers import (
    AnyId,
    Limit,
    ModelExportsRoom,
    ModelId,
    ModelsRoom,
    Offset,
    ServicesRoom,
    SignedIn,
)
from tg_workbench.contracts.route import FAILURES, audited
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.workbench.model_schemas import (
    AliasName,
    AnyAlias,
    AnyText,
    ModelList,
    ModelVersions,
    ModelView,
)
from tg_workbench.contracts.workbench.schemas import Deleted
from tg_workbench.models import ExportFormat, ModelQuery, card_of
from tg_workbench.models.registry import SortBy

router = APIRouter(
    prefix="/workbench/v1/models", route_class=WorkbenchRoute, tags=["Workbench"], responses=FAILURES
)
MODEL, ALIAS = "/{model_id}", "/{model_id}/aliases/{alias}"


async def _query(
    sort_by: SortBy = "created_at",
    model_type: AnyText = None,
    family: AnyText = None,
    alias: AnyAlias = None,
    task: AnyText = None,
    dataset_id: AnyId = None,
) -> ModelQuery:
    return ModelQuery(
        sort_by=sort_by, model_ref=model_type, family=family, alias=alias, task=task, dataset_id=dataset_id
    )


AskedModels = Annotated[ModelQuery, Depends(_query)]
"""Which models a request asks for."""


@router.get("")
async def list_models(
    owner: SignedIn, models: ModelsRoom, asked: AskedModels, limit: Limit = 50, offset: Offset = 0
) -> ModelList:
    """List your models. `family` and `alias` together find the one that is in `production`, say."""
    page, total = models.list_page(owner, asked, limit=limit, offset=offset)
    return ModelList(models=ModelView.all_of(models, page), total=total, limit=limit, offset=offset)


@router.get(MODEL)
async def get_model(model_id: ModelId, owner: SignedIn, models: ModelsRoom) -> ModelView:
    """A model: its shape, its figures, what it was trained with, what it came from, and what it has cost."""
    (view,) = ModelView.all_of(models, [models.get(owner, model_id)])
    return view


@router.delete(MODEL)
async def delete_model(
    model_id: ModelId, owner: SignedIn, models: ModelsRoom, services: ServicesRoom
) -> Deleted:
    """Forget a model's weights. What it has cost stays spent."""
    models.delete(owner, model_id, users=services.users_of(model_id))
    services.release_model(model_id)
    return Deleted()


@router.get(MODEL + "/versions")
async def list_versions(model_id: ModelId, owner: SignedIn, models: ModelsRoom) -> ModelVersions:
    """Every version under a model's name, the newest first."""
    model = models.get(owner, model_id)
    return ModelVersions(family=model.family, models=ModelView.all_of(models, models.versions(model)))


@router.put(ALIAS)
async def point_alias(model_id: ModelId, alias: AliasName, owner: SignedIn, models: ModelsRoom) -> ModelView:
    """Have an alias of the model's name point to this version, and to no other any more."""
    (view,) = ModelView.all_of(models, [models.point(owner, model_id, alias)])
    return view


@router.delete(ALIAS)
async def remove_alias(model_id: ModelId, alias: AliasName, owner: SignedIn, models: ModelsRoom) -> ModelView:
    """Take an alias away from this version."""
    (view,) = ModelView.all_of(models, [models.unpoint(owner, model_id, alias)])
    return view


@router.get(
    MODEL + "/card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {}}, "description": "The card, in Markdown."}},
)
async def read_card(model_id: ModelId, owner: SignedIn, models: ModelsRoom) -> Response:
    """What a model is: its data, training, figures, privacy, inputs and limits."""
    return Response(card_of(models.get(owner, model_id)), media_type="text/markdown")


@router.get(
    MODEL + "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The files, in a zip."}},
)
@audited
async def export_model(
    model_id: ModelId,
    owner: SignedIn,
    models: ModelsRoom,
    exports: ModelExportsRoom,
    form: Annotated[ExportFormat, Query(alias="format")] = "safetensors",
) -> StreamingResponse:
    """A model as the files other programs read: plain weights, ONNX, or a Hugging Face folder.

    Unsealed: whoever has the answer has the weights. What they cost is in `privacy.json` beside them.
    """
    pieces = exports.archive(models.get(owner, model_id), form)
    named = {"Content-Disposition": f'attachment; filename="{model_id}.zip"'}
    return StreamingResponse(pieces, 200, named, "application/zip")
