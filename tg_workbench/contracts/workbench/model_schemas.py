"""Our views of models: all that is known of one, but for its bytes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.models import Model, Models
from tg_workbench.models.card import meaning

AliasName = Annotated[
    str, Path(pattern=r"^[a-z][a-z0-9._-]{0,63}$", description="`production`, for one. In small letters.")
]
AnyAlias = Annotated[str | None, Query(pattern=r"^[a-z][a-z0-9._-]{0,63}$")]
AnyText = Annotated[str | None, Query(min_length=1, max_length=200)]
_OF_COLUMN = ("name", "type", "optional", "values", "low", "high")
NOT_COVERED = "measured on private rows, without noise: for their owner, and not covered by epsilon"


class ModelView(View):
    """A model. `performance_note` says when its figures are not covered by ε."""

    model_id: str
    name: str
    family: str
    """What all versions are called."""
    version: int
    aliases: list[str]
    model_type: str
    task: str
    architecture: dict[str, Any]
    class_names: list[str] | None
    inputs: list[str] | None
    """The raw columns of a row to predict, in order; null: numbers of `architecture.input_shape`, or text."""
    columns: list[dict[str, Any]] | None
    """How each of `inputs` is read: its name and type, and the values or the range that were declared for it.

    Of public sets also the values that were found. Nothing of it is a function of protected rows.
    """
    performance: dict[str, Any]
    performance_note: str | None
    training_config: dict[str, Any]
    dataset_id: str | None
    dataset_version: int | None
    job_id: str | None
    training_client_id: str | None
    privacy: dict[str, Any]
    meaning: str
    """What its privacy means, in a sentence."""
    lineage: dict[str, Any]
    size_bytes: int
    has_onnx: bool
    created_at: str

    @classmethod
    def of(cls, model: Model, aliases: list[str]) -> ModelView:
        """A model of the room, and the aliases that point to it."""
        columns = (model.encoding or {}).get("columns")
        return cls(
            **model.model_dump(
                include={
                    *("name", "family", "version", "task", "architecture", "class_names", "performance"),
                    *("training_config", "dataset_id", "dataset_version", "job_id", "privacy", "lineage"),
                    "size_bytes",
                }
            ),
            model_id=model.id,
            aliases=aliases,
            model_type=model.model_ref,
            inputs=[column["name"] for column in columns] if columns else None,
            columns=[_reading(column) for column in columns] if columns else None,
            performance_note=NOT_COVERED if model.is_private and model.performance else None,
            training_client_id=model.client_id,
            meaning=meaning(model.privacy),
            has_onnx=model.onnx_blob is not None,
            created_at=iso(model.created_at),
        )

    @classmethod
    def all_of(cls, room: Models, models: list[Model]) -> list[ModelView]:
        """Models of the room, with their aliases."""
        aliases = room.aliases_of(models)
        return [cls.of(model, aliases[model.id]) for model in models]


class ModelList(View):
    """A page of models."""

    models: list[ModelView]
    total: int
    limit: int
    offset: int


class ModelVersions(View):
    """Every version under one name, the newest first."""

    family: str
    models: list[ModelView]


def _reading(column: dict[str, Any]) -> dict[str, Any]:
    return {name: column[name] for name in _OF_COLUMN if column.get(name) is not None}
