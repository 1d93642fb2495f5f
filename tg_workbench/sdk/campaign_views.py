"""A campaign and its rounds as the workbench saw them at one moment, and how far they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from tg_workbench.sdk.progress import html_of
from tg_workbench.sdk.values import Value

ROUND_OVER = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class RoundProgress(Value):
    """How far a round is. Accuracy and loss are what devices say of themselves; ε covers neither."""

    completed_devices: int = 0
    """Those whose update was accepted."""
    rejected_devices: int = 0
    avg_accuracy: float | None = None
    """None also where the round is private: devices then tell nothing of themselves."""
    avg_loss: float | None = None
    convergence_metric: float | None = None
    """How far the round has moved the model, relative to how long the model is."""
    stalest_update: int | None = None
    """Where devices may come late: how many versions of the model the latest of its updates was."""


@dataclass(frozen=True, slots=True)
class RoundView(Value):
    """A round as the workbench saw it at one moment."""

    PARTS: ClassVar[Mapping[str, type[Value]]] = {"progress": RoundProgress}

    id: str
    status: str = "in_progress"
    """in_progress, completed or failed."""
    phase: str = "preparing"
    """preparing, recruiting, training, aggregating, completed or failed."""
    reason: str | None = None
    """Why it failed."""
    campaign_id: str = ""
    number: int = 1
    """Which try of its campaign it is: a round that fails for lack of devices is tried again."""
    rounds: int = 1
    """How many its campaign is to complete."""
    participants: int = 0
    target_participants: int = 0
    min_participants: int = 0
    started_at: str | None = None
    training_started_at: str | None = None
    ended_at: str | None = None
    deadline: str | None = None
    """When its phase ends at the latest."""
    model_version: str = "v0"
    model_digest: str | None = None
    architecture: str = ""
    strategy: str = ""
    progress: RoundProgress = field(default_factory=RoundProgress)
    privacy: Mapping[str, Any] | None = None
    """What it promises about each device; until it is over, what is planned for the whole campaign."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens in it."""
        return self.phase in ROUND_OVER

    @property
    def epsilon(self) -> float | None:
        """The ε of each device, up to this round; None while it goes on, and where there is no guarantee."""
        return None if (self.privacy or {}).get("is_planned") else self._told_epsilon

    @property
    def planned_epsilon(self) -> float | None:
        """What ε the whole campaign is to come to, while this round goes on."""
        return self._told_epsilon if (self.privacy or {}).get("is_planned") else None

    @property
    def _told_epsilon(self) -> float | None:
        told = (self.privacy or {}).get("epsilon")
        return float(told) if isinstance(told, int | float) else None

    def __str__(self) -> str:
        """One line."""
        done = f"{self.progress.completed_devices} of {self.participants} devices"
        which = f"round {self.number}/{self.rounds}" if self.number <= self.rounds else f"round {self.number}"
        parts = [which, self.phase, done, *_measures(self)]
        return " · ".join([*parts, self.reason] if self.reason else parts)


@dataclass(frozen=True, slots=True)
class Participation(Value):
    """A device's part in a round."""

    device_id: str
    status: str = "joined"
    """joined, submitted, accepted, rejected or dropped."""
    reason: str | None = None
    """Why its update was rejected."""
    joined_at: str | None = None
    submitted_at: str | None = None
    sample_count: int | None = None
    round_id: str = ""
    """The round that it joined; an update that comes late counts in a later one."""


@dataclass(frozen=True, slots=True)
class CampaignProgress:
    """How far a campaign is."""

    state: str = "active"
    rounds_done: int = 0
    rounds: int = 1
    newest: RoundView | None = None
    note: str = ""

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.rounds_done / self.rounds) if self.rounds else 0.0

    def __str__(self) -> str:
        """One line: state, rounds, the newest round's devices and measures, and why it ended if it failed."""
        parts = [self.state, f"round {self.rounds_done}/{self.rounds}"]
        if self.newest is not None:
            done, members = self.newest.progress.completed_devices, self.newest.participants
            if self.state == "active" and not self.newest.is_over:
                parts.append(f"{self.newest.phase}, {done} of {members} devices")
            parts += _measures(self.newest)
        return " · ".join([*parts, self.note] if self.note else parts)

    def as_html(self) -> str:
        """The same with a bar."""
        return html_of(self.fraction, str(self))


@dataclass(frozen=True, slots=True)
class CampaignView(Value):
    """A campaign as the workbench saw it at one moment."""

    id: str
    name: str = ""
    status: str = "active"
    """active, completed, failed or cancelled."""
    reason: str | None = None
    """Why it failed."""
    architecture: str = ""
    strategy: str = ""
    rounds: int = 1
    rounds_done: int = 0
    model_version: str = "v0"
    model_digest: str | None = None
    """SHA-256 of the newest model."""
    model_id: str | None = None
    created_at: str | None = None
    ended_at: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[RoundView] = ()
    """The newest of its rounds, in order; `Campaign.rounds()` has all of them."""
    rounds_begun: int = 0
    """How many rounds it has had."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """The campaign that a JSON object tells of."""
        rounds = [RoundView.from_wire(each) for each in data.get("history") or ()]
        return super(CampaignView, cls).from_wire({**data, "history": rounds})

    @property
    def is_over(self) -> bool:
        """Whether no round comes any more."""
        return self.status != "active"

    @property
    def moment(self) -> CampaignProgress:
        """How far it is."""
        newest = self.history[-1] if self.history else None
        return CampaignProgress(self.status, self.rounds_done, self.rounds, newest, self.reason or "")


def _measures(seen: RoundView) -> list[str]:
    told = {"accuracy": seen.progress.avg_accuracy, "loss": seen.progress.avg_loss}
    shown = [f"{name} {value:.4g}" for name, value in told.items() if value is not None]
    return shown if seen.epsilon is None else [*shown, f"ε = {seen.epsilon:.2f}"]


@dataclass(frozen=True, slots=True)
class FleetBudget(Value):
    """What the rounds of an organisation's devices have spent, and what they may spend."""

    unit: str = "device"
    devices: int = 0
    delta: float = 0.0
    epsilon_cap: float | None = None
    spent_epsilon: float = 0.0
    plain_rounds: int = 0
    """How many models were made without noise: of those ε says nothing."""
    require_privacy: bool = False

    def __str__(self) -> str:
        """One line, with what ε does not speak of."""
        cap = "" if self.epsilon_cap is None else f" of {self.epsilon_cap:g}"
        plain = f"; {self.plain_rounds} rounds without privacy" if self.plain_rounds else ""
        return f"ε = {self.spent_epsilon:.2f}{cap} per {self.unit} (δ = {self.delta:g}){plain}"
