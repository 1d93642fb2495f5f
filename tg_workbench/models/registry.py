"""The registry: models by name and version, whose they are, and which one an alias points to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import InvalidRequest, ModelInUse, ModelNotFound
from tg_workbench.identity import Principal
from tg_workbench.models.learned import Learned
from tg_workbench.models.shelf import ONNX, WEIGHTS, Shelf, Shelved
from tg_workbench.models.tables import Model, ModelAlias
from tg_workbench.storage import Blobs, LeftBlobs
from tg_workbench.storage.database import now

SortBy = Literal["created_at", "accuracy", "name"]
MOST_ALIASES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuery:
    """Which models are wanted, and in which order; what is None does not matter.

    The newest come first, the most accurate (those without an accuracy last), or names from A to Z.
    """

    sort_by: SortBy = "created_at"
    model_ref: str | None = None
    family: str | None = None
    alias: str | None = None
    task: str | None = None
    dataset_id: str | None = None
    text: str | None = None
    """What is in its name, its type or its task, or is the id of its dataset."""

    def conditions(self) -> list[Any]:
        """The same for a statement."""
        named = {"model_ref": self.model_ref, "family": self.family, "task": self.task}
        wanted: list[Any] = [
            getattr(Model, name) == value for name, value in named.items() if value is not None
        ]
        if self.dataset_id is not None:
            wanted.append(col(Model.dataset_id) == self.dataset_id)
        if self.alias is not None:
            pointed = select(ModelAlias.model_id).where(ModelAlias.alias == self.alias)
            wanted.append(col(Model.id).in_(pointed))
        if self.text is not None:
            looked = (Model.name, Model.family, Model.model_ref, Model.task)
            found = [col(column).icontains(self.text, autoescape=True) for column in looked]
            wanted.append(sa.or_(*found, col(Model.dataset_id) == self.text))
        return wanted

    def order(self) -> list[Any]:
        """How they are sorted: always in one way, so that pages fit together."""
        newest = [col(Model.created_at).desc(), col(Model.id)]
        match self.sort_by:
            case "accuracy":
                return [col(Model.accuracy).desc().nulls_last(), *newest]
            case "name":
                return [sa.func.lower(Model.name), *newest]
            case _:
                return newest


class Models:
    """Models that were learned."""

    def __init__(self, session: Session, blobs: Blobs, home: Path) -> None:
        self.session = session
        self.left = LeftBlobs(session, blobs)
        self.shelf = Shelf(blobs, home)

    def register(self, learned: Learned, shelved: Shelved | None = None) -> Model:
        """Keep what a job has learned, as the next version of its name.

        The same job gets the same model again, whatever it brings: a worker that died and came back does not
        make two. `shelved`: its bytes, put apart before. Raises StorageFull.
        """
        known = self._of_job(learned.job_id)
        if known is not None:
            if shelved is not None:
                self.left.forget(shelved.blobs)
            return known
        kept = shelved or self.shelf.put(self.session, learned)
        self.left.named(kept.blobs)
        version = self._next_version(learned)
        told = learned.told()
        accuracy = told["performance"].get("accuracy")
        model = Model(
            **told,
            id=kept.model_id,
            owner_id=learned.owner_id,
            tenant_id=learned.tenant_id,
            family=learned.family,
            version=version,
            name=learned.name_of(version),
            model_ref=learned.model_ref,
            task=learned.task,
            accuracy=accuracy if isinstance(accuracy, int | float) else None,
            dataset_id=learned.dataset_id,
            dataset_version=learned.dataset_version,
            job_id=learned.job_id,
            client_id=learned.client_id,
            weights_blob=kept.weights_blob,
            onnx_blob=kept.onnx_blob,
            hub_blob=kept.hub_blob,
            key_id=kept.key_id,
            size_bytes=kept.size_bytes,
        )
        self.session.add(model)
        self.session.flush()
        return model

    def get(self, owner: Principal, model_id: str) -> Model:
        """The model. Raises ModelNotFound, also when it is somebody else's."""
        model = self.session.get(Model, model_id)
        if model is None or model.owner_id != owner.id or model.deleted_at is not None:
            raise ModelNotFound
        return model

    def opened(self, model: Model) -> tuple[bytes, bytes | None]:
        """Its weights (safetensors) and its ONNX graph, unsealed. Raises SealBroken."""
        onnx = None if model.onnx_blob is None else self.shelf.read(self.session, model, ONNX)
        return self.shelf.read(self.session, model, WEIGHTS), onnx

    def list_page(
        self, owner: Principal, query: ModelQuery | None = None, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Model], int]:
        """The owner's models that `query` wants, and how many there are."""
        query = query or ModelQuery()
        mine = (col(Model.owner_id) == owner.id, col(Model.deleted_at).is_(None), *query.conditions())
        total = self.session.exec(select(sa.func.count()).select_from(Model).where(*mine)).one()
        page = select(Model).where(*mine).order_by(*query.order()).limit(limit).offset(offset)
        return list(self.session.exec(page)), total

    def versions(self, model: Model) -> list[Model]:
        """Every living version under the model's name, the newest first."""
        query = (
            select(Model)
            .where(Model.owner_id == model.owner_id, Model.family == model.family)
            .where(col(Model.deleted_at).is_(None))
            .order_by(col(Model.version).desc())
        )
        return list(self.session.exec(query))

    def delete(self, owner: Principal, model_id: str, *, users: int) -> None:
        """Forget a model's weights, and the aliases that point to it; its row stays, and so does the ledger.

        `users`, services that answer with it, forbid it. Raises ModelNotFound, ModelInUse.
        """
        model = self.get(owner, model_id)
        if users:
            raise ModelInUse(users)
        for alias in self.session.exec(select(ModelAlias).where(ModelAlias.model_id == model_id)):
            self.session.delete(alias)
        model.deleted_at = now()
        self.session.add(model)
        self.session.flush()
        self.left.forget(blob for blob in (model.weights_blob, model.onnx_blob, model.hub_blob) if blob)

    # ------------------------------------------------------------------------- aliases
    def aliases_of(self, models: list[Model]) -> dict[str, list[str]]:
        """Which aliases point to each of these models, by its id."""
        found: dict[str, list[str]] = {model.id: [] for model in models}
        query = select(ModelAlias).where(col(ModelAlias.model_id).in_(found)).order_by(ModelAlias.alias)
        for row in self.session.exec(query):
            found[row.model_id].append(row.alias)
        return found

    def point(self, owner: Principal, model_id: str, alias: str) -> Model:
        """Have an alias of the model's name point to this version, and to no other any more.

        Raises ModelNotFound, InvalidRequest when the name has too many aliases.
        """
        model = self.get(owner, model_id)
        row = self.session.get(ModelAlias, (owner.id, model.family, alias))
        if row is None:
            row = ModelAlias(
                owner_id=owner.id,
                family=model.family,
                alias=alias,
                tenant_id=owner.tenant_id,
                model_id=model.id,
            )
            if self._count_aliases(model) >= MOST_ALIASES:
                raise InvalidRequest(f"a model's name has at most {MOST_ALIASES} aliases; remove one first")
        row.model_id, row.moved_at = model.id, now()
        self.session.add(row)
        self.session.flush()
        return model

    def unpoint(self, owner: Principal, model_id: str, alias: str) -> Model:
        """Take away an alias that points to this version; one that is not there is fine.

        Raises ModelNotFound.
        """
        model = self.get(owner, model_id)
        row = self.session.get(ModelAlias, (owner.id, model.family, alias))
        if row is not None and row.model_id == model.id:
            self.session.delete(row)
            self.session.flush()
        return model

    def pointed(self, owner: Principal, family: str, alias: str) -> Model:
        """The version that an alias points to. Raises ModelNotFound."""
        row = self.session.get(ModelAlias, (owner.id, family, alias))
        if row is None:
            raise ModelNotFound
        return self.get(owner, row.model_id)

    # ------------------------------------------------------------------------- inside
    def _of_job(self, job_id: str | None) -> Model | None:
        """What a job has registered, even if it was deleted since."""
        if job_id is None:
            return None
        return self.session.exec(select(Model).where(Model.job_id == job_id)).first()

    def _next_version(self, learned: Learned) -> int:
        """One more than any version of the name ever had: a number is not given twice."""
        query = select(sa.func.max(Model.version)).where(
            Model.owner_id == learned.owner_id, Model.family == learned.family
        )
        return (self.session.exec(query).one() or 0) + 1

    def _count_aliases(self, model: Model) -> int:
        query = select(sa.func.count()).select_from(ModelAlias)
        mine = (ModelAlias.owner_id == model.owner_id, ModelAlias.family == model.family)
        return self.session.exec(query.where(*mine)).one()
