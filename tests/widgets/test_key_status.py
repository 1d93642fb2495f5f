from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tg_widgets import KeyStatus
from tg_widgets.key_status import face_of

from tests.widgets.conftest import Wire, wait_for
from tg_workbench import InvalidRequest, Workbench
from tg_workbench.sdk import DeviceKey, DeviceKeys
from tg_workbench.sdk.device import Device

NOW = datetime(2026, 3, 11, tzinfo=UTC)
NAMES = {"dev_1": "ward 4"}


def row_of(**key: Any) -> dict[str, Any]:
    told = {"created_at": "2026-03-01T00:00:00Z", "expires_at": "2026-03-21T00:00:00Z", **key}
    keys = DeviceKeys(keys=[DeviceKey("dev_1", "v1.0", **told)], total=3)
    face = face_of(keys, NAMES, NOW)
    assert face["more"] == 2
    return dict(face["rows"][0])


def test_a_key_says_its_version_its_age_and_until_when_it_is_good() -> None:
    row = row_of(parameter_set="ML-KEM-768", signature_algorithm="ML-DSA-65")
    assert (row["name"], row["version"], row["kinds"]) == ("ward 4", "v1.0", "ML-KEM-768 · ML-DSA-65")
    assert (row["age"], row["left"], row["share"]) == ("10 days", "in 10 days", 0.5)
    assert (row["status"], row["actions"]) == ("active", ["rotate"])


@pytest.mark.parametrize(
    ("key", "status", "left"),
    [
        ({"expires_at": "2026-03-10T00:00:00Z"}, "expired", "1 day ago"),
        ({"status": "rotating"}, "rotating", "in 10 days"),
        ({"status": "revoked"}, "revoked", ""),
        ({"status": "retired"}, "retired", ""),
    ],
)
def test_a_key_that_is_not_good_any_more_says_so(key: dict[str, Any], status: str, left: str) -> None:
    row = row_of(**key)
    assert (row["status"], row["left"]) == (status, left)


def test_keys_that_the_server_has_seen_are_marked() -> None:
    assert row_of(key_origin="server")["is_known_to_server"]
    assert not row_of()["is_known_to_server"]


@pytest.mark.parametrize(
    ("due", "words", "is_due"),
    [("2026-03-13T00:00:00Z", "in 2 days", False), ("2026-03-10T23:00:00Z", "1 h 0 min ago", True)],
)
def test_the_next_rotation_is_told(due: str, words: str, is_due: bool) -> None:
    face = face_of(DeviceKeys(next_rotation=due, interval_days=30), {}, NOW)
    assert (face["due"], face["is_due"], face["interval_days"]) == (words, is_due, 30)


def test_keys_are_shown_and_rotated(wire: Wire, workbench: Workbench, wards: tuple[Device, ...]) -> None:
    card = KeyStatus(workbench)
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown["connection"] == "connected")

    def shown(device: Device) -> dict[str, Any]:
        return next(row for row in card.shown["rows"] if row["device"] == device.id)

    first, second = wards
    assert (shown(first)["name"], shown(first)["status"]) == ("ward 4", "active")
    wire.say(card, {"action": "rotate", "values": {"id": "dev_none"}})
    wire.say(card, {"action": "rotate", "values": {"id": first.id}})
    wait_for(lambda: shown(first)["status"] == "rotating")
    assert (shown(second)["status"], card.shown["error"]) == ("active", "")
    assert first.heartbeat()["rotate_keys"]
    card.close()


def test_a_published_status_names_nobody_and_takes_no_orders(
    wire: Wire, workbench: Workbench, wards: tuple[Device, ...]
) -> None:
    card = KeyStatus(workbench, published=True)
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown["connection"] == "connected" and len(card.shown["rows"]) >= 2)
    wire.say(card, {"action": "rotate", "values": {"id": wards[1].id}})
    said = wire.told(card)
    card.close()
    assert not [word for word in ("ward 4", "dev_") if word in said]
    assert not wards[1].heartbeat()["rotate_keys"]


def test_a_limit_is_a_limit(wire: Wire) -> None:
    with pytest.raises(InvalidRequest, match="from 1 to 500"):
        KeyStatus(limit=501)
