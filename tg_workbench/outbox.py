"""The outbox: what other systems are to hear of, stored in the transaction that made it true.

    Outbox(session).put(device.tenant_id, WebhookEvent.DEVICE_REGISTERED, {"device_id": device.id})

is all a room does. The webhooks room takes it out again and sends it to whoever has subscribed, and the
notifications room tells the people it concerns; where nobody wants it, it is gone a moment later.

Pitfalls: what is put here leaves the machine. Ids, states, steps and ε may; rows, raw losses, gradient norms,
batch sizes and exact counts of protected data may not, and the names they usually have are refused. A free
text (a name, a message) may hold anything: leave it out, or know who wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, Session, SQLModel

from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

NEVER_TOLD = frozenset(
    {
        "loss",
        "losses",
        "points",
        "grad_norm",
        "batch",
        "batch_size",
        "num_examples",
        "num_clipped",
        "logprobs",
    }
)
"""Names of what is not covered by ε."""


class WebhookEvent(StrEnum):
    """What can be heard of from outside: the names of both documents."""

    DEVICE_REGISTERED = "device.registered"
    DEVICE_OFFLINE = "device.offline"
    ROUND_STARTED = "training.round_started"
    ROUND_COMPLETED = "training.round_completed"
    KEY_ROTATED = "security.key_rotated"
    SECURITY_ALERT = "security.alert"
    TRAINING_STARTED = "training.started"
    TRAINING_PROGRESS = "training.progress"
    TRAINING_COMPLETED = "training.completed"
    TRAINING_FAILED = "training.failed"
    DATASET_PROCESSED = "dataset.processed"


class Notice(SQLModel, table=True):
    """Something that somebody outside may want to hear of."""

    __tablename__ = "outbox"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    tenant_id: str
    owner_id: str | None = None
    """Whose it is, if it is somebody's own; otherwise it concerns the tenant as a whole."""
    event: str
    data: str = Field(sa_type=sa.Text)
    at: float = Field(default_factory=now)


_COLUMNS = ("tenant_id", "owner_id", "event", "data", "at")
_INSERT = Statement(sa.insert(Notice).values({name: sa.bindparam(name) for name in _COLUMNS}))


class Outbox:
    """What is to be told outside."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def put(
        self, tenant_id: str, event: WebhookEvent, data: dict[str, Any], *, owner_id: str | None = None
    ) -> None:
        """Tell `event` to the subscribers of a tenant, and to its owner, once what `session` wrote is stored.

        A number that is not finite is told as null: JSON has no word for it. Raises ValueError for a name
        that stands for something private, which is a mistake of the room.
        """
        if told := sorted(NEVER_TOLD.intersection(_names(data))):
            raise ValueError(f"{', '.join(told)} may not leave the machine")
        text = json.dumps(_finite(data), allow_nan=False)
        told_to = {"tenant_id": tenant_id, "owner_id": owner_id}
        _INSERT.change(self.session, **told_to, event=event.value, data=text, at=now())


def _names(value: Any) -> Iterator[str]:
    """Every member's name, however deep."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _names(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _names(member)


def _finite(value: Any) -> Any:
    """The same with None for every number that is not finite."""
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
