"""Notifications: what the workbench has told you, and what you want to be told, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.values import Value

PATH = "/workbench/v1/notifications"


@dataclass(frozen=True, slots=True)
class Notification(Value):
    """One thing you were told: ids, states and ε, never a row or a loss."""

    notification_id: str
    event: str = ""
    """What kind it is of, such as `training.completed`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""
    read_at: str | None = None

    def __str__(self) -> str:
        """One line: when, what, and whether it is new."""
        told = "".join(f" {name}={value}" for name, value in self.data.items() if value is not None)
        return f"{self.at} {self.event}{told}{'' if self.read_at else ' (new)'}"


class Notifications:
    """What you were told, and where you want to be told."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, unread: bool | None = None, limit: int = 50, offset: int = 0) -> list[Notification]:
        """A page of them, newest first; `unread=True`: only those you have not read."""
        chosen = None if unread is None else str(unread).lower()
        answer = self._connection.get(PATH, {"unread": chosen, "limit": limit, "offset": offset})
        return [Notification.from_wire(item) for item in answer.get("notifications", [])]

    def read(self, notification: Notification | str) -> Notification:
        """Mark one as read. Raises NotFound."""
        chosen = notification if isinstance(notification, str) else notification.notification_id
        return Notification.from_wire(self._connection.post(f"{PATH}/{chosen}/read"))

    def read_all(self) -> int:
        """Mark everything as read; how many that were."""
        return int(self._connection.post(f"{PATH}/read_all").get("read", 0))

    @property
    def preferences(self) -> Mapping[str, Sequence[str]]:
        """Where each kind goes to: in_app, webhook, email."""
        told: Mapping[str, Sequence[str]] = self._connection.get(f"{PATH}/preferences").get("preferences", {})
        return told

    def prefer(self, preferences: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """Change where kinds go to; an empty list: nowhere. What is left out stays. Returns all of them.

            wb.notifications.prefer({"training.completed": ["in_app", "email"]})

        Raises InvalidRequest for a kind or a channel that there is not.
        """
        chosen = {kind: list(channels) for kind, channels in preferences.items()}
        self._connection.post("/api/notifications/preferences", Body.of_json({"preferences": chosen}))
        return self.preferences
