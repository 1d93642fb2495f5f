"""Models: what jobs have learned, by name and version; asked, exported, and served."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tg_workbench.errors import ModelNotFound
from tg_workbench.sdk.connected import Connected
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.datasets import Dataset, dataset_id_of
from tg_workbench.sdk.downloads import fetch_archive
from tg_workbench.sdk.paths import path_of_one
from tg_workbench.sdk.predicting import LANGUAGE, predicted
from tg_workbench.sdk.questions import Reading
from tg_workbench.sdk.services import Service, Services
from tg_workbench.sdk.values import Prediction, PrivacyView, Value
from tg_workbench.sdk.wire_errors import rebuilt

MODELS = "/workbench/v1/models"
"""A worker is started when nobody has asked a model lately; then an answer takes longer."""
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")
PAGE, MOST_SEARCHED = 100, 2_000
Form = Literal["safetensors", "onnx", "hf"]
Order = Literal["created_at", "accuracy", "name"]


class Card(str):
    """What a model is, in Markdown; a notebook shows it as a page."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(slots=True, repr=False)
class Model(Connected):
    """A model: one version of a name. Its members are as they were when it was looked up."""

    KIND: ClassVar[str] = "model"
    WHENCE: ClassVar[str] = "wb.models[id]"

    PARTS: ClassVar[Mapping[str, type[Value]]] = {"privacy": PrivacyView}

    model_id: str
    name: str = ""
    family: str = ""
    """What all versions are called."""
    version: int = 1
    aliases: Sequence[str] = ()
    model_type: str = ""
    task: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    class_names: Sequence[str] | None = None
    inputs: Sequence[str] | None = None
    """The raw columns of a row to predict, in order; None: numbers, pictures or text."""
    columns: Sequence[Mapping[str, Any]] | None = None
    """How each of them is read: name, type, and the values or the range it may have, where that is known."""
    performance: Mapping[str, Any] = field(default_factory=dict)
    """How good it is: accuracy, precision, recall, f1_score; of a regression mae, rmse, r2."""
    performance_note: str | None = None
    """Says when these figures are not covered by ε."""
    training_config: Mapping[str, Any] = field(default_factory=dict)
    dataset_id: str | None = None
    dataset_version: int | None = None
    job_id: str | None = None
    training_client_id: str | None = None
    privacy: PrivacyView = field(default_factory=PrivacyView)
    meaning: str = ""
    """What its privacy means, in a sentence."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    has_onnx: bool = False
    created_at: str | None = None
    _connection: Connection | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """Its id."""
        return self.model_id

    # ------------------------------------------------------------------------- ask
    def predict(self, rows: Any) -> list[Prediction]:
        """A class and how sure the model is of it, or a value, for each row, in order.

        Rows are lists in the order of `inputs`, dicts by column, an array, a DataFrame (columns that it does
        not read stay here), pictures, or texts; one row alone is answered by a list of one. Raises
        InvalidRequest, naming row and column.
        """
        connection = self._connected()
        return predicted(connection, f"/models/{self.id}/predict", rows, self)

    @property
    def reading(self) -> Reading:
        """What it reads, as rows are made ready for it."""
        shape = tuple(self.architecture.get("input_shape") or ())
        texts = self.task == LANGUAGE or ("input_shape" in self.architecture and not shape)
        return Reading(self.inputs, shape, takes_bytes=self.class_names is not None, takes_texts=texts)

    # ------------------------------------------------------------------------- look
    @property
    def card(self) -> Card:
        """What it is: its data, training, figures, privacy, inputs and limits; a page in a notebook."""
        return Card(self._connected().download(f"{MODELS}/{self.id}/card").decode())

    def versions(self) -> list[Model]:
        """Every version of its name, the newest first."""
        connection = self._connected()
        answer = connection.get(f"{MODELS}/{self.id}/versions")
        return [Model.from_wire(item, connection) for item in answer.get("models", [])]

    def refresh(self) -> Self:
        """Look it up again, and return it. Raises ModelNotFound."""
        self._take(self._connected().get(f"{MODELS}/{self.id}"))
        return self

    # ------------------------------------------------------------------------- keep
    def alias(self, alias: str) -> Self:
        """Have an alias of its name point here and nowhere else: `wb.models["name@production"]` finds it."""
        self._take(self._connected().put(f"{MODELS}/{self.id}/aliases/{alias}"))
        return self

    def remove_alias(self, alias: str) -> Self:
        """Take an alias away from this version."""
        self._take(self._connected().delete(f"{MODELS}/{self.id}/aliases/{alias}"))
        return self

    def export(self, folder: str | Path, format: Form = "safetensors") -> Path:
        """Write it into `folder`, which is made: plain weights, ONNX, or what `from_pretrained` loads.

        What it cost is in `privacy.json` beside it, and its card. The files are not encrypted. Raises
        InvalidRequest when it has no such form, FileExistsError rather than write over a file.
        """
        query = {"format": format}
        return fetch_archive(
            self._connected(), f"{MODELS}/{self.id}/export", Path(folder).expanduser(), query
        )

    def serve(
        self,
        name: str | None = None,
        *,
        min_replicas: int = 0,
        max_replicas: int = 1,
        runtime: str = "onnxruntime",
        gpu_count: int = 0,
    ) -> Service:
        """Have an inference service answer with it, from now on; named as the model is when nothing is said.

        With `min_replicas` 0 its worker leaves when nobody asks, and the next question starts another.
        Raises Refused for a name that is taken, InvalidRequest.
        """
        services = Services(self._connected())
        chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.family}-v{self.version}").strip("-._")[:64]
        service = services.create(
            self,
            chosen,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            runtime=runtime,
            gpu_count=gpu_count,
        )
        return service.start()

    def delete(self) -> None:
        """Forget its weights; what it has cost stays spent. Raises ModelInUse while it is served."""
        self._connected().delete(f"{MODELS}/{self.id}")

    # ------------------------------------------------------------------------- how it asks
    def __str__(self) -> str:
        """One line: name, version, how good it is and what it cost."""
        names = "".join(f" @{alias}" for alias in self.aliases)
        shown = [(name, self.performance.get(name)) for name in ("accuracy", "f1_score", "r2", "rmse")]
        figures = [f"{name} {value:.3f}" for name, value in shown if isinstance(value, int | float)][:2]
        cost = (
            f"ε = {self.privacy.spent_epsilon or 0.0:.2f}" if self.privacy.private else "no privacy guarantee"
        )
        return ", ".join([f"{self.family} version {self.version}{names} ({self.model_type})", *figures, cost])

    def __repr__(self) -> str:
        """The same, and its id; asks nobody."""
        return f"<Model {self}, {self.id}>"


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
            "dataset_id": dataset_id_of(dataset),
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
        return Model.from_wire(
            self._connection.get(path_of_one(MODELS, model_id, ModelNotFound)), self._connection
        )

    def __getitem__(self, key: str) -> Model:
        """By id, by name, by `name:version` or by `name@alias`. Raises ModelNotFound."""
        if not isinstance(key, str) or not key:
            raise _missing(str(key))
        if key.startswith("mdl-"):
            return self.get(key)
        name, at, alias = key.rpartition("@")
        if at and not _ALIAS.fullmatch(alias):
            raise _missing(f"{key} (an alias is in small letters; a version is {name}:1, for one)")
        if at:
            return self._first(key, self.list(family=name, alias=alias, limit=1))
        newest = self.list(family=key, limit=1)
        if newest:
            return newest[0]
        parts = re.fullmatch(r"(.+)(?::|_v)([0-9]{1,9})", key)
        if parts is None:
            raise _missing(key)
        named = self._first(key, self.list(family=parts[1], limit=1))
        return self._first(key, [model for model in named.versions() if model.version == int(parts[2])])

    def _first(self, key: str, found: Sequence[Model]) -> Model:
        if not found:
            raise _missing(key)
        return found[0]


def _words(model: Model) -> str:
    return " ".join((model.name, model.family, model.model_type, model.task)).casefold()


def _missing(key: str) -> Exception:
    return rebuilt(ModelNotFound, f"there is no model {key}: wb.models.list() shows those there are", {})
