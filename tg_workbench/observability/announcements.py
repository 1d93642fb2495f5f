"""Announcements: what may be said live of what has happened, on which channel, and to whom.

Only what is listed here leaves. A channel may end on a published page, so nothing on one is a function of
private rows: the curve of a run is its ε and its noisy loss, never `points.loss`, and never a reason or the
text of an error, which may tell of a gradient that was not finite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from sqlmodel import Session, col

from tg_workbench.events import EventRow, tenant_subject
from tg_workbench.identity import DEVICE, Principal
from tg_workbench.observability.logs import where
from tg_workbench.storage.statements import Statement
from tg_workbench.training import OperationKind, TrainingClient

Channel = Literal["dashboard", "training", "security", "device"]
Data = dict[str, Any]
CHANNELS: Mapping[Channel, str] = {
    "dashboard": "read",
    "training": "read",
    "security": "monitoring",
    "device": DEVICE,
}
"""Each channel, and the scope its listeners hold. `device` is each device's own."""
MONITORING = "monitoring"
OF_EVERY_MEMBER = frozenset({"device_registered", "device_deregistered", "device_online", "device_offline"})
"""What every member of an organisation may hear of it: they can list its devices, too."""
OF_ROUNDS = frozenset({"round_started", "training_progress", "round_ended"})
"""What every member of an organisation, and each of its devices, may hear of its rounds."""
ENDS_A_DEVICE = frozenset({"device_deregistered", "certificate_revoked"})
"""The last that a device hears."""
CURVE = ("step", "epsilon", "noisy_loss")
BUDGET = (
    *("guarantee", "mode", "unit", "relation", "accountant"),
    *(
        "target_epsilon",
        "delta",
        "spent_epsilon",
        "steps_left",
        "dataset_spent_epsilon",
        "dataset_epsilon_cap",
    ),
)
_COLUMNS: list[Any] = [getattr(EventRow, name) for name in ("id", "subject", "type", "at", "data")]
_AFTER = Statement(
    sa.select(*_COLUMNS, col(TrainingClient.owner_id))
    .outerjoin(TrainingClient, col(TrainingClient.id) == col(EventRow.subject))
    .where(col(EventRow.id) > sa.bindparam("after"))
    .order_by(col(EventRow.id))
    .limit(sa.bindparam("most"))
)
_NEWEST = Statement(sa.select(sa.func.max(col(EventRow.id))))
log = structlog.get_logger("tg_workbench.broadcasts")


@dataclass(frozen=True, slots=True)
class Announcement:
    """One thing that may be said. It is about a client of `owner_id`, or about the tenant of `subject`."""

    id: int
    type: str
    at: float
    data: Data
    subject: str
    owner_id: str | None

    def is_for(self, listener: Principal, channel: Channel) -> bool:
        """Whether this listener may hear it there."""
        if self.owner_id is not None:
            return channel in ("dashboard", "training") and self.owner_id == listener.id
        if self.subject != tenant_subject(listener.tenant_id):
            return False
        if self.type in OF_ROUNDS:
            return channel != "security"
        if channel == "training":
            return False
        if channel == "device":
            return self.data.get("device_id", "") in (listener.id, None)
        return listener.may(MONITORING) or (channel == "dashboard" and self.type in OF_EVERY_MEMBER)


def announcements(session: Session, after: int, limit: int) -> tuple[list[Announcement], int]:
    """What may be said of the events after one, and the id of the last that was looked at."""
    rows = _AFTER.rows(session, after=after, most=limit)
    said = [announcement for row in rows if (announcement := _read(row)) is not None]
    return said, rows[-1][0] if rows else after


def newest_event(session: Session) -> int:
    """The id of the newest event; 0 when there is none."""
    return _NEWEST.value(session) or 0


def _read(row: Any) -> Announcement | None:
    """What a row says. One that cannot be read must not keep everybody from the later ones."""
    try:
        return _of(*row)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as failure:
        log.error("an event cannot be read", event_id=row[0], **where(failure))
        return None


def _of(
    event_id: int, subject: str, kind: str, at: float, data: str, owner_id: str | None
) -> Announcement | None:
    known = (_OF_CLIENTS if owner_id is not None else _OF_TENANTS).get(kind)
    if known is None:
        return None
    name, shown = known
    content = shown(json.loads(data))
    if content is None:
        return None
    about = {"training_client_id": subject} if owner_id is not None else {}
    return Announcement(event_id, name, at, {**about, **content}, subject, owner_id)


def _only(*names: str) -> Callable[[Data], Data | None]:
    return lambda data: {name: data[name] for name in names}


def _progress(data: Data) -> Data:
    done, total = data["done_steps"], data["total_steps"]
    privacy = data["privacy"]
    return {
        "step": data["step"],
        "completed_steps": done,
        "total_steps": total,
        "progress_percentage": round(100 * done / total) if total and done is not None else None,
        "points": {name: data["points"][name] for name in CURVE if name in data["points"]},
        "privacy": {name: privacy.get(name) for name in BUDGET} if privacy else None,
    }


def _round_progress(data: Data) -> Data:
    """The document's message, and where the round stands."""
    done, total = data["completed_devices"], data["total_devices"]
    return {**data, "progress_percentage": round(100 * done / total) if total else 0}


def _end_of_run(data: Data) -> Data | None:
    if data["operation"] != OperationKind.TRAIN.value:
        return None
    return {"future_id": data["future_id"], "status": data["status"]}


_OF_CLIENTS: Mapping[str, tuple[str, Callable[[Data], Data | None]]] = {
    "status": ("training_status", _only("status", "step", "paused")),
    "progress": ("training_progress", _progress),
    "operation": ("training_ended", _end_of_run),
    "interrupted": ("training_interrupted", _only("step", "resumed_from", "lost_steps")),
    "checkpoint": ("checkpoint_saved", _only("artifact_id", "step", "automatic")),
}
_DEVICE = ("device_id",)
_OF_TENANTS: Mapping[str, tuple[str, Callable[[Data], Data | None]]] = {
    "round_started": (
        "round_started",
        _only("round_id", "campaign_id", "number", "model_version", "target_participants"),
    ),
    "round_progress": ("training_progress", _round_progress),
    "round_ended": (
        "round_ended",
        _only("round_id", "campaign_id", "number", "status", "model_version", "completed_devices"),
    ),
    "update_refused": ("update_refused", _only("round_id", "device_id", "reason")),
    "device_registered": ("device_registered", _only(*_DEVICE, "device_name")),
    "device_deregistered": ("device_deregistered", _only(*_DEVICE)),
    "device_online": ("device_online", _only(*_DEVICE)),
    "device_offline": ("device_offline", _only(*_DEVICE, "last_seen")),
    "key_rotated": ("key_rotated", _only(*_DEVICE, "key_version")),
    "key_rotation_forced": ("key_rotation_forced", _only(*_DEVICE, "deadline")),
    "certificate_revoked": ("certificate_revoked", _only(*_DEVICE, "reason")),
    "alert": (
        "security_alert",
        _only("alert_id", "rule", "state", "severity", "subject", "value", "threshold", "message"),
    ),
}
