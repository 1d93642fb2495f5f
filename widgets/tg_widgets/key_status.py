"""The keys of devices: which version each has, how old it is, until when it is good, when the next is due.

It shows no key, only what may be known of one. Rotating is asked for by an administrator; devices bring their
new keys by themselves with their next sign of life.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tg_widgets import assets
from tg_widgets.job_rows import spelled
from tg_widgets.live_card import LiveCard
from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk import Workbench
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.devices import DeviceKey, DeviceKeys, Devices

SECONDS_BETWEEN_LOOKS = 10.0
MOST_KEYS = 500
DAY = 86_400.0


class KeyStatus(LiveCard):
    """Shows the newest `limit` keys. `published` is for dashboards: no names of devices, and no button."""

    _esm = assets.script("key_status")
    _css = assets.style("live_card.css", "key_status.css")

    def __init__(
        self, workbench: Workbench | None = None, *, published: bool = False, limit: int = 100
    ) -> None:
        if not 1 <= limit <= MOST_KEYS:
            raise InvalidRequest(f"limit must be from 1 to {MOST_KEYS}")
        self.published = published
        self.limit = limit
        self._keys: DeviceKeys | None = None
        self._names: dict[str, str] = {}
        super().__init__(workbench)

    def _look(self, connection: Connection) -> float:
        devices = Devices(connection)
        keys = devices.keys(size=self.limit)
        names = {} if self.published else {each.id: each.name for each in devices.list(size=100)}
        with self._lock:
            self._keys, self._names = keys, names
        return SECONDS_BETWEEN_LOOKS

    def _face(self) -> Mapping[str, Any]:
        if self._keys is None:
            return {"published": self.published}
        return face_of(self._keys, self._names, datetime.now(UTC), published=self.published)

    def _allows(self, action: str, values: Mapping[str, Any]) -> bool:
        known = {key.device_id for key in self._keys.keys} if self._keys is not None else set()
        return action == "rotate" and not self.published and values.get("id") in known

    def _ask(self, action: str, values: Mapping[str, Any], connection: Connection) -> None:
        Devices(connection).rotate_keys(str(values.get("id")))


def face_of(
    keys: DeviceKeys, names: Mapping[str, str], at: datetime, *, published: bool = False
) -> dict[str, Any]:
    """What is shown of the keys at a moment."""
    due = _moment(keys.next_rotation)
    return {
        "published": published,
        "rows": [_row(key, names, at, published=published) for key in keys.keys],
        "more": max(0, keys.total - len(keys.keys)),
        "server_version": keys.server_key_version or "",
        "interval_days": keys.interval_days,
        "next_rotation": keys.next_rotation,
        "due": "" if due is None else _until((due - at).total_seconds()),
        "is_due": due is not None and due <= at,
    }


def _row(key: DeviceKey, names: Mapping[str, str], at: datetime, *, published: bool) -> dict[str, Any]:
    made, ends = _moment(key.created_at), _moment(key.expires_at)
    age = None if made is None else max(0.0, (at - made).total_seconds())
    life = None if made is None or ends is None else (ends - made).total_seconds()
    left = None if ends is None else (ends - at).total_seconds()
    is_good = key.status in ("active", "rotating")
    is_over = left is not None and left <= 0
    return {
        "device": "" if published else key.device_id,
        "name": "" if published else names.get(key.device_id, key.device_id),
        "version": key.key_version,
        "status": "expired" if is_good and is_over else key.status,
        "kinds": " · ".join(kind for kind in (key.parameter_set, key.signature_algorithm) if kind),
        "age": "" if age is None else _aged(age),
        "left": _until(left) if is_good and left is not None else "",
        "share": min(1.0, age / life) if is_good and age is not None and life else None,
        "is_known_to_server": key.key_origin == "server",
        "actions": ["rotate"] if key.status == "active" and not published else [],
    }


def _moment(told: str | None) -> datetime | None:
    """A time as it came over the wire; None for what is none."""
    try:
        return datetime.fromisoformat(told) if told else None
    except ValueError:
        return None


def _aged(seconds: float) -> str:
    days = int(seconds // DAY)
    return spelled(seconds) if days < 1 else f"{days} day{'' if days == 1 else 's'}"


def _until(seconds: float) -> str:
    return f"in {_aged(seconds)}" if seconds > 0 else f"{_aged(-seconds)} ago"
