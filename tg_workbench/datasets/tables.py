"""What the datasets room stores: datasets, the append-only ledger, and the ledger's running counts."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class Dataset(SQLModel, table=True):
    """A registered dataset and its privacy policy. Its rows lie in one blob.

    Datasets about the same people share a `population`: one ledger, one δ, one cap.
    """

    __tablename__ = "datasets"

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
    units: int | None = None
    """How many units (people, say) own the rows; None: every row is one."""
    units_digest: str | None = None
    population: str = Field(index=True)
    unit: str = "example"
    relation: str = "add_or_remove_one"
    delta: float
    epsilon_cap: float
    spent_epsilon: float = 0.0
    idempotency_key: str | None = None
    fingerprint: str | None = None
    created_at: float = Field(default_factory=now)
    deleted_at: float | None = None

    @property
    def members(self) -> int:
        """How many there are that ε is about, and that are drawn: units, or rows."""
        return self.size if self.units is None else self.units


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
