"""What the datasets room stores: datasets, the append-only ledger, and the ledger's running counts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class Dataset(SQLModel, table=True):
    """A dataset and its privacy policy. Its rows lie in one blob.

    Datasets about the same people share a `population`: one ledger, one δ, one cap. What was uploaded as a
    file is `processing` at first: until it is `ready` there are no rows, and the policy is what was asked.
    """

    __tablename__ = "datasets"
    __table_args__ = (sa.Index("ix_datasets_family", "owner_id", "name", "version"),)

    id: str = Field(primary_key=True)
    owner_id: str = Field(index=True)
    tenant_id: str
    name: str
    privacy: str
    format: str
    size: int
    tensors: str | None = Field(default=None, sa_type=sa.Text)
    blob: str
    rows_digest: str | None = None
    """Of the rows without ids beside them: the same rows are the same people, however they are grouped."""
    cells_digest: str | None = None
    """Of a table that came as a file: the same in every format, however it is read, protected or public."""
    units: int | None = None
    """How many units (people, say) own the rows; None: every row is one."""
    units_digest: str | None = None
    population: str = Field(index=True)
    population_because: str | None = None
    """Why it is in this one: `new`, `named`, `same_rows` or `same_name`; None before it was ready."""
    unit: str = "example"
    relation: str = "add_or_remove_one"
    delta: float
    epsilon_cap: float
    spent_epsilon: float = 0.0
    idempotency_key: str | None = None
    fingerprint: str | None = None
    created_at: float = Field(default_factory=now)
    deleted_at: float | None = None
    status: str = "ready"
    """`processing`, `ready` or `failed`."""
    version: int = 1
    """Of those that one owner has given this name."""
    reason: str | None = Field(default=None, sa_type=sa.Text)
    """Why it failed."""
    description: str | None = Field(default=None, sa_type=sa.Text)
    dataset_type: str | None = None
    source: str | None = None
    """The blob of the file as it was uploaded."""
    file_name: str | None = None
    file_size: int | None = None
    file_format: str | None = None
    target: str | None = None
    profile: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    """What is in the file. Not covered by ε: for its owner only."""
    encoding: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    asked: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    """What its owner said of the file and its policy."""

    @property
    def is_ready(self) -> bool:
        """Whether there are rows to learn from."""
        return self.status == "ready"

    @property
    def members(self) -> int:
        """How many there are that ε is about, and that are drawn: units, or rows."""
        return self.size if self.units is None else self.units


class Upload(SQLModel, table=True):
    """A file that comes in pieces. How much of it is here is how long the partial file is."""

    __tablename__ = "uploads"

    id: str = Field(primary_key=True)
    owner_id: str = Field(index=True)
    tenant_id: str
    size: int = Field(sa_type=sa.BigInteger)
    sha256: str | None = None
    asked: dict[str, Any] = Field(sa_type=sa.JSON)
    dataset_id: str | None = None
    """What it became."""
    created_at: float = Field(default_factory=now)
    expires_at: float


class Charge(SQLModel):
    """What one optimizer step is about to reveal."""

    dataset_id: str | None = None
    client_id: str
    tenant_id: str
    actor: str
    operation_id: str
    attempt: int
    ordinal: int
    mode: str
    noise_multiplier: float
    sample_rate: float
    max_grad_norm: float
    step: int
    epsilon_after: float
    truncated_batch_size: int = 0
    dataset_size: int = 0
    """How many are drawn from, where a large batch is cut."""
    participants: bytes | None = None
    """Whom the step was about, 8 bytes each; None: it may have been anybody."""

    @property
    def kind(self) -> tuple[float, float, int, int]:
        """What the accountant needs to know of it: a `Kind`."""
        return (self.noise_multiplier, self.sample_rate, self.truncated_batch_size, self.dataset_size)


class LedgerEvent(Charge, table=True):
    """One noisy release: an optimizer step that used private rows. Never changed, never removed."""

    __tablename__ = "ledger_events"
    __table_args__ = (
        sa.UniqueConstraint("operation_id", "attempt", "ordinal"),
        sa.Index("ix_ledger_client", "client_id", "id"),
        sa.Index("ix_ledger_dataset", "dataset_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    at: float = Field(default_factory=now)


class LedgerCount(SQLModel, table=True):
    """How many events of one kind a population or a client has, so that a step need not count them."""

    __tablename__ = "ledger_counts"

    subject: str = Field(primary_key=True)
    noise_multiplier: float = Field(primary_key=True)
    sample_rate: float = Field(primary_key=True)
    truncated_batch_size: int = Field(default=0, primary_key=True)
    dataset_size: int = Field(default=0, primary_key=True)
    count: int
