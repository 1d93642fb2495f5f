"""What happened, in the past tense, and how it is kept for whoever listens.

A room records a fact in the same transaction as the change it tells of, so no listener hears of what was
rolled back and none misses what was stored. Live feeds read the log by id.

Pitfalls: facts about protected data may hold raw losses. They answer the curator only; webhooks, audit and
published pages must take `privacy`, `step` and `points.noisy_loss`, never `points.loss`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, Session, SQLModel, col, select

from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A training client entered a state."""

    type: ClassVar[str] = "status"
    status: str
    step: int
    paused: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """Optimizer steps were taken. `points` are columns: step, loss, epsilon, perhaps noisy_loss."""

    type: ClassVar[str] = "progress"
    points: dict[str, list[Any]]
    step: int
    total_steps: int | None
    done_steps: int | None
    privacy: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class OperationEnded:
    """An operation completed, failed or was cancelled."""

    type: ClassVar[str] = "operation"
    future_id: str
    operation: str
    status: str
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ClientInterrupted:
    """The worker that held a training client was lost; the client went on from a checkpoint."""

    type: ClassVar[str] = "interrupted"
    reason: str
    step: int
    resumed_from: int
    lost_steps: int


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint was stored."""

    type: ClassVar[str] = "checkpoint"
    artifact_id: str
    step: int
    automatic: bool


@dataclass(frozen=True, slots=True)
class AlertChanged:
    """An alert fired, was acknowledged or has resolved (`state`). Its subject is a tenant."""

    type: ClassVar[str] = "alert"
    alert_id: str
    rule: str
    state: str
    severity: str
    subject: str
    value: float
    threshold: float
    message: str


@dataclass(frozen=True, slots=True)
class DeviceRegistered:
    """A device came in. The subject of all that is about devices is their organisation's tenant."""

    type: ClassVar[str] = "device_registered"
    device_id: str
    organization_id: str
    device_name: str


@dataclass(frozen=True, slots=True)
class DeviceDeregistered:
    """A device was sent away for good."""

    type: ClassVar[str] = "device_deregistered"
    device_id: str


@dataclass(frozen=True, slots=True)
class DeviceCameOnline:
    """A device was seen that had been offline."""

    type: ClassVar[str] = "device_online"
    device_id: str


@dataclass(frozen=True, slots=True)
class DeviceOffline:
    """A device was not seen for two of its intervals."""

    type: ClassVar[str] = "device_offline"
    device_id: str
    last_seen: float


@dataclass(frozen=True, slots=True)
class KeyRotated:
    """A device has new keys, or a new certificate for those it had."""

    type: ClassVar[str] = "key_rotated"
    device_id: str
    key_version: str
    origin: str


@dataclass(frozen=True, slots=True)
class KeyRotationForced:
    """A device, or every device of the organisation (None), has to bring new keys by a time."""

    type: ClassVar[str] = "key_rotation_forced"
    device_id: str | None
    deadline: float


@dataclass(frozen=True, slots=True)
class CertificateRevoked:
    """Nothing that a device shows is good any more."""

    type: ClassVar[str] = "certificate_revoked"
    device_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of a job's log: DEBUG, INFO, WARNING or ERROR, and what there is to read."""

    type: ClassVar[str] = "log"
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """A federated round recruits: devices may join it now. Its subject is a tenant."""

    type: ClassVar[str] = "round_started"
    round_id: str
    campaign_id: str
    number: int
    model_version: str
    target_participants: int


@dataclass(frozen=True, slots=True)
class RoundProgressed:
    """A federated round began to train or to aggregate, or an update for it was accepted or rejected."""

    type: ClassVar[str] = "round_progress"
    round_id: str
    campaign_id: str
    number: int
    phase: str
    completed_devices: int
    total_devices: int


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A federated round was completed, and there is another model, or it has failed."""

    type: ClassVar[str] = "round_ended"
    round_id: str
    campaign_id: str
    number: int
    status: str
    model_version: str
    completed_devices: int


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """What a device has sent was refused, at the door or once it was opened. Its subject is a tenant."""

    type: ClassVar[str] = "update_refused"
    round_id: str
    device_id: str
    reason: str


DeviceFact = (
    DeviceRegistered
    | DeviceDeregistered
    | DeviceCameOnline
    | DeviceOffline
    | KeyRotated
    | KeyRotationForced
    | CertificateRevoked
)
Fact = (
    StatusChanged
    | Progressed
    | OperationEnded
    | ClientInterrupted
    | CheckpointSaved
    | AlertChanged
    | Logged
    | DeviceFact
    | RoundStarted
    | RoundProgressed
    | RoundEnded
    | UpdateRefused
)


class EventRow(SQLModel, table=True):
    """One stored fact. `id` only grows, so a reader that has seen N asks for what comes after N."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    subject: str = Field(index=True)
    type: str
    at: float = Field(default_factory=now)
    data: str = Field(sa_type=sa.Text)

    def as_message(self) -> dict[str, Any]:
        """The event as listeners get it."""
        return {
            "id": self.id,
            "type": self.type,
            "training_client_id": self.subject,
            "at": self.at,
            "data": json.loads(self.data),
        }


def tenant_subject(tenant_id: str) -> str:
    """What facts about a tenant as a whole are recorded under."""
    return f"tenant:{tenant_id}"


_INSERT = Statement(
    sa.insert(EventRow).values({name: sa.bindparam(name) for name in ("subject", "type", "at", "data")})
)


class Events:
    """The log of facts."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def record(self, subject: str, fact: Fact) -> None:
        """Store `fact` about `subject` with the transaction that made it true."""
        _INSERT.change(self.session, subject=subject, type=fact.type, at=now(), data=json.dumps(asdict(fact)))

    def after(self, subject: str, event_id: int, limit: int = 500) -> list[EventRow]:
        """The facts about `subject` that came after `event_id`, oldest first."""
        query = (
            select(EventRow)
            .where(EventRow.subject == subject, col(EventRow.id) > event_id)
            .order_by(col(EventRow.id))
            .limit(limit)
        )
        return list(self.session.exec(query))

    def newest_before(self, subject: str, time: float) -> int:
        """The id of the newest fact about `subject` that was stored before `time`; 0 when there is none."""
        query = (
            select(EventRow.id)
            .where(EventRow.subject == subject, EventRow.at < time)
            .order_by(col(EventRow.id).desc())
            .limit(1)
        )
        return self.session.exec(query).first() or 0
