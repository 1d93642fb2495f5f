"""What the models room stores: models in versions, and the aliases that point to one of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class Model(SQLModel, table=True):
    """A neural network that was learned: its weights lie sealed in a blob.

    A deleted one keeps its row, without weights: what it has cost and what it came from stay known.
    """

    __tablename__ = "models"
    __table_args__ = (
        sa.UniqueConstraint("owner_id", "family", "version"),
        sa.UniqueConstraint("job_id"),
        sa.Index("ix_models_owner", "owner_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    owner_id: str
    tenant_id: str
    family: str
    """What all versions are called."""
    version: int
    name: str
    """What this version is called: as its owner did, or `ResNet50_v1`."""
    model_ref: str
    task: str
    architecture: dict[str, Any] = Field(sa_type=sa.JSON)
    class_names: list[str] | None = Field(default=None, sa_type=sa.JSON)
    encoding: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    performance: dict[str, Any] = Field(sa_type=sa.JSON)
    accuracy: float | None = None
    """That of `performance`, to sort by."""
    training_config: dict[str, Any] = Field(sa_type=sa.JSON)
    dataset_id: str | None = Field(default=None, index=True)
    dataset_version: int | None = None
    job_id: str | None = None
    client_id: str | None = None
    privacy: dict[str, Any] = Field(sa_type=sa.JSON)
    lineage: dict[str, Any] = Field(sa_type=sa.JSON)
    weights_blob: str
    onnx_blob: str | None = None
    hub_blob: str | None = None
    """What a Hugging Face folder holds beside the weights."""
    key_id: str
    size_bytes: int
    created_at: float = Field(default_factory=now)
    deleted_at: float | None = None

    @property
    def is_private(self) -> bool:
        """Whether its weights are covered by differential privacy."""
        return bool(self.privacy.get("guarantee", "none") != "none")


class ModelAlias(SQLModel, table=True):
    """A name that points to one version of a family, `production` for one, and can be moved to another."""

    __tablename__ = "model_aliases"

    owner_id: str = Field(primary_key=True)
    family: str = Field(primary_key=True)
    alias: str = Field(primary_key=True)
    tenant_id: str
    model_id: str = Field(foreign_key="models.id", index=True)
    moved_at: float = Field(default_factory=now)
