"""What is stored of inference services. How one stands is not: that is seen by looking at its workers."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class Service(SQLModel, table=True):
    """A model that its owner wants answered by workers, under a name of its own."""

    __tablename__ = "services"
    __table_args__ = (sa.UniqueConstraint("owner_id", "name"),)

    id: str = Field(primary_key=True)
    owner_id: str = Field(index=True)
    tenant_id: str
    name: str
    model_id: str = Field(foreign_key="models.id", index=True)
    runtime: str
    """What was asked for."""
    runtime_used: str
    gpu_count: int = 0
    min_replicas: int = 0
    max_replicas: int = 1
    is_started: bool = False
    reason: str | None = None
    """Why it cannot answer, since it was started last."""
    warnings: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    created_at: float = Field(default_factory=now)
    started_at: float | None = None
    stopped_at: float | None = None
