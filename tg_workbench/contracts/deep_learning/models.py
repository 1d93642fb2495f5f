"""The Deep Learning Platform's models: S3-13, S3-14 and S3-16, with the members that the document has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.deep_learning.errors import DEEP_LEARNING_FAILURES, DeepLearningRoute
from tg_workbench.contracts.providers import ModelId, ModelsRoom, ServicesRoom, SignedIn
from tg_workbench.models import Model, ModelQuery

router = APIRouter(
    prefix="/models",
    route_class=DeepLearningRoute,
    tags=["Deep Learning Platform"],
    responses=DEEP_LEARNING_FAILURES,
)
ModelType = Annotated[str | None, Query(min_length=1, max_length=200, description="`resnet50`, for one.")]
Page = Annotated[int, Query(ge=1, le=1_000_000)]
PageLimit = Annotated[int, Query(ge=1, le=1000)]
SortBy = Literal["created_at", "accuracy", "name"]
ARCHITECTURE = ("input_shape", "output_classes", "parameters")
CONFIG = ("dataset_id", "epochs", "batch_size", "optimizer")
OF_CLASSES = ("accuracy", "precision", "recall", "f1_score")


class View(BaseModel):
    """An answer."""

    model_config = ConfigDict(protected_namespaces=())


class ModelItem(View):
    """A model in a list. `accuracy` is null where there are no classes; `size_mb` counts 2^20 bytes."""

    id: str
    name: str
    model_type: str
    accuracy: float | None
    created_at: str
    size_mb: float

    @classmethod
    def of(cls, model: Model) -> ModelItem:
        """A model of the room."""
        return cls(
            id=model.id,
            name=model.name,
            model_type=model.model_ref,
            accuracy=model.accuracy,
            created_at=utc(model.created_at),
            size_mb=size_mb(model),
        )


class ModelPage(View):
    """A page of models."""

    total: int
    page: int
    limit: int
    models: list[ModelItem]


class ModelDetail(View):
    """A model: its shape, how good it is, and what it was trained with.

    A regression has `mae`, `rmse` and `r2` for a performance. Of private rows these figures are the owner's
    alone, and not covered by ε.
    """

    id: str
    name: str
    model_type: str
    architecture: dict[str, Any]
    performance: dict[str, Any]
    training_config: dict[str, Any]
    created_at: str

    @classmethod
    def of(cls, model: Model) -> ModelDetail:
        """A model of the room."""
        figures = OF_CLASSES if model.task.endswith("classification") else _figures(model.performance)
        config = {"dataset_id": model.dataset_id, **model.training_config}
        return cls(
            id=model.id,
            name=model.name,
            model_type=model.model_ref,
            architecture=_members(model.architecture, ARCHITECTURE),
            performance=_members(model.performance, figures),
            training_config=_members(config, CONFIG),
            created_at=utc(model.created_at),
        )


@router.get("")
async def list_models(
    owner: SignedIn,
    models: ModelsRoom,
    page: Page = 1,
    limit: PageLimit = 10,
    model_type: ModelType = None,
    sort_by: SortBy = "created_at",
) -> ModelPage:
    """List all trained models: the newest or the most accurate first, or by name."""
    query = ModelQuery(sort_by=sort_by, model_ref=model_type)
    found, total = models.list_page(owner, query, limit=limit, offset=(page - 1) * limit)
    shown = [ModelItem.of(model) for model in found]
    return ModelPage(total=total, page=page, limit=limit, models=shown)


@router.get("/{model_id}")
async def get_model(model_id: ModelId, owner: SignedIn, models: ModelsRoom) -> ModelDetail:
    """Get detailed information about a model."""
    return ModelDetail.of(models.get(owner, model_id))


@router.delete("/{model_id}", status_code=204, response_class=Response)
async def delete_model(
    model_id: ModelId, owner: SignedIn, models: ModelsRoom, services: ServicesRoom
) -> None:
    """Delete a trained model. One that a service answers with is refused."""
    models.delete(owner, model_id, users=services.users_of(model_id))
    services.release_model(model_id)


def size_mb(model: Model) -> float:
    """How large a model's weights are, in units of 2^20 bytes: 97.8 for a `resnet50`."""
    return round(model.size_bytes / 2**20, 4)


def _figures(values: dict[str, Any]) -> tuple[str, ...]:
    """The names of what is a number."""
    return tuple(name for name, value in values.items() if isinstance(value, int | float))


def _members(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values.get(name) for name in names}
