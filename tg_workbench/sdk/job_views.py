"""A job as the workbench saw it at one moment, how far it was, and the lines of its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from tg_workbench.sdk.events import Event
from tg_workbench.sdk.progress import html_of
from tg_workbench.sdk.values import Value

OVER = ("completed", "failed", "cancelled")
SHOWN = ("loss", "noisy_loss", "val_loss", "val_accuracy")
"""The measures that a bar shows, if there are such."""


@dataclass(frozen=True, slots=True)
class JobProgress(Value):
    """How far a job is. `metrics` are the newest of each; those of protected rows are not covered by ε."""

    state: str = "queued"
    epoch: int = 0
    total_epochs: int = 0
    step: int = 0
    total_steps: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        if self.state == "completed":
            return 1.0
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    def __str__(self) -> str:
        """One line: state, epochs, loss, ε, and why it ended if that is not plain."""
        parts = [self.state]
        if self.total_epochs:
            parts.append(f"epoch {self.epoch}/{self.total_epochs}")
        told = ((name, self.metrics.get(name)) for name in SHOWN)
        parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in told if value is not None]
        if self.metrics.get("epsilon") is not None:
            parts.append(f"ε = {self.metrics['epsilon']:.2f}")
        return " · ".join([*parts, self.note] if self.note else parts)

    def as_html(self) -> str:
        """The same with a bar."""
        return html_of(self.fraction if self.total_steps or self.state in OVER else None, str(self))


@dataclass(frozen=True, slots=True)
class JobView(Value):
    """A job as the workbench saw it at one moment. `metrics_note` says what of it ε does not cover."""

    id: str
    name: str = ""
    status: str = "queued"
    """queued, running, stopping, completed, failed or cancelled."""
    model: str = ""
    """What type of model it trains."""
    dataset_id: str = ""
    progress: int = 0
    """Percent of its steps."""
    epsilon: float | None = None
    reason: str | None = None
    """Why it ended, in a word: early_stopping, budget_exhausted, stopped, timeout, lost, error."""
    message: str | None = None
    """The same in a sentence."""
    warnings: Sequence[str] = ()
    model_id: str | None = None
    training_client_id: str | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    priority: int = 0
    gpu_count: int = 0
    position: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    final_metrics: Mapping[str, Any] | None = None
    metrics_note: str | None = None
    estimated_seconds: float | None = None
    elapsed_seconds: int = 0
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it, unless it is restarted."""
        return self.status in OVER

    @property
    def moment(self) -> JobProgress:
        """How far it is."""
        note = self.message or self.reason or ""
        return JobProgress.from_wire({**self.position, "state": self.status, "note": note})

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The measures it ended with, or else the newest."""
        return self.final_metrics or self.position.get("metrics") or {}


@dataclass(frozen=True, slots=True)
class JobLogLine:
    """One line of a job's log. `id` is where to read on."""

    id: int
    timestamp: str
    level: str
    message: str

    @classmethod
    def of(cls, event: Event) -> Self:
        """The line that an event brings."""
        at = event.at
        if isinstance(at, int | float):
            at = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(event.id, str(at), str(event.data.get("level")), str(event.data.get("message")))

    def __str__(self) -> str:
        """One line, as a log has it."""
        return f"{self.timestamp} {self.level:<7} {self.message}"
