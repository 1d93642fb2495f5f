"""What execution stores: one row per piece of work that may need a process, and the dispatcher's lease."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Work(SQLModel, table=True):
    """Something that wants a worker process. `epoch` counts its workers: only the newest may write.

    Who waits for a worker is served by whose `share` holds the fewest and was served longest ago, then by
    `priority`, then by age.
    """

    __tablename__ = "work"

    id: str = Field(primary_key=True)
    kind: str
    wanted: bool = Field(default=True, index=True)
    epoch: int = 0
    pid: int | None = None
    lease_until: float = 0.0
    last_active: float = 0.0
    failures: int = 0
    last_exit: str | None = None
    share: str = ""
    """Whose part of the machine it takes: a user, say. Shares are served in turn."""
    priority: int = 0
    """Of one share, a higher one is served first."""
    wanted_since: float = 0.0
    waits_for: str | None = None
    """Another piece of work: while that is wanted, this one gets no worker."""


class DispatcherLease(SQLModel, table=True):
    """Which dispatcher may start workers. One row."""

    __tablename__ = "dispatcher_lease"

    id: int = Field(default=1, primary_key=True)
    holder: str = ""
    until: float = 0.0
