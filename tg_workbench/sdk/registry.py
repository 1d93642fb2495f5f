"""The registry: what `wb.models` is, where models are looked up by name, version and alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tg_workbench.errors import ModelNotFound
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.dataset_names import dataset_id_of
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.models import ALIAS, MODELS, Model
from tg_workbench.sdk.paths import path_of_one
from tg_workbench.sdk.versions import name_and_version
from tg_workbench.sdk.wire_errors import rebuilt

PAGE, MOST_SEARCHED = 100, 2_000
Order = Literal["created_at", "accuracy", "name"]


class Models:
    """The models of a workbench: `wb.models[id]`, `["name"]` (its newest), `["name:2"]`, `["name@alias"]`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        family: str | None = None,
        alias: str | None = None,
        model_type: str | None = None,
        task: str | None = None,
        dataset: Dataset | str | None = None,
        sort_by: Order = "created_at",
        limit: int = 50,
        offset: int = 0,
    ) -> list[Model]:
        """A page of them, newest first, or the most accurate, or by name; only those that are named."""
        query = {
            "family": family,
            "alias": alias,
            "model_type": model_type,
            "task": task,
            "dataset_id": dataset_id_of(dataset, self._connection),
            "sort_by": sort_by,
            "limit": limit,
            "offset": offset,
        }
        answer = self._connection.get(MODELS, query)
        return [Model.from_wire(item, self._connection) for item in answer.get("models", [])]

    def search(self, text: str, *, limit: int = 50) -> Sequence[Model]:
        """Those with a text in their name, their type or their task, newest first."""
        wanted = text.casefold()
        found: list[Model] = []
        for offset in range(0, MOST_SEARCHED, PAGE):
            page = self.list(limit=PAGE, offset=offset)
            found += [model for model in page if wanted in _words(model)]
            if len(found) >= limit or len(page) < PAGE:
                break
        return found[:limit]

    def get(self, model_id: str) -> Model:
        """The model with this id. Raises ModelNotFound."""
        answer = self._connection.get(path_of_one(MODELS, model_id, ModelNotFound))
        return Model.from_wire(answer, self._connection)

    def __getitem__(self, key: str) -> Model:
        """By id, by name, by `name:version` or by `name@alias`. Raises ModelNotFound."""
        if not isinstance(key, str) or not key:
            raise _missing(str(key))
        if key.startswith("mdl-"):
            return self.get(key)
        name, at, alias = key.rpartition("@")
        if at and not ALIAS.fullmatch(alias):
            raise _missing(f"{key} (an alias is in small letters; a version is {name}:1, for one)")
        if at:
            return self._first(key, self.list(family=name, alias=alias, limit=1))
        newest = self.list(family=key, limit=1)
        if newest:
            return newest[0]
        parts = name_and_version(key)
        if parts is None:
            raise _missing(key)
        name, version = parts
        named = self._first(key, self.list(family=name, limit=1))
        return self._first(key, [model for model in named.versions() if model.version == version])

    def _first(self, key: str, found: Sequence[Model]) -> Model:
        if not found:
            raise _missing(key)
        return found[0]


def _words(model: Model) -> str:
    return " ".join((model.name, model.family, model.model_type, model.task)).casefold()


def _missing(key: str) -> Exception:
    return rebuilt(ModelNotFound, f"there is no model {key}: wb.models.list() shows those there are", {})
