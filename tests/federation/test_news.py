"""What a round tells while it goes on: live and by webhook in the document's words, and who is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, unix_connect

from tests.federation.attacking import Attacker, code_of
from tests.federation.conftest import Fleet, fleet_apart
from tests.federation.test_rounds import both
from tests.webhook_receiver import WebhookReceiver, is_genuine
from tg_workbench.sdk.device import Device

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CHANNELS = ("training", "dashboard", "security")
ROUNDS = ["training.round_started", "training.round_completed"]
Message = dict[str, Any]


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A workbench that may call this machine."""
    with fleet_apart(tmp_path_factory.mktemp("talkative"), TG_WEBHOOK_ALLOW_LOOPBACK="true") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def two(talkative: Fleet) -> tuple[Device, Device]:
    return talkative.enroll("one"), talkative.enroll("the other")


@pytest.fixture
def heard(talkative: Fleet) -> Iterator[dict[str, ClientConnection]]:
    """Every channel for people, open."""
    socket, key = str(talkative.server.socket), talkative.server.api_key
    with ExitStack() as opened:
        channels = {}
        for name in CHANNELS:
            dialled = unix_connect(socket, f"ws://workbench/ws/{name}", additional_headers={"X-API-Key": key})
            channels[name] = opened.enter_context(dialled)
            assert until(channels[name], "connected")
        yield channels


def until(channel: ClientConnection, kind: str) -> list[Message]:
    """What a channel says, up to the first message of this type."""
    said: list[Message] = []
    while not said or said[-1]["type"] != kind:
        said.append(json.loads(channel.recv(60)))
    return said


@pytest.mark.operation("S2-29")
def test_a_round_is_told_live_in_the_documents_words(
    talkative: Fleet, two: tuple[Device, Device], heard: dict[str, ClientConnection]
) -> None:
    round_id = talkative.start()["id"]
    talkative.recruiting(round_id)
    both(two, round_id)
    for name in ("training", "dashboard"):
        said = [one for one in until(heard[name], "round_ended") if one["data"].get("round_id") == round_id]
        assert [said[0]["type"], said[-1]["type"]] == ["round_started", "round_ended"]
        progress = [one for one in said if one["type"] == "training_progress"]
        for one in progress:
            assert {"type", "timestamp", "data"} <= set(one)
            assert TIME.fullmatch(one["timestamp"])
            documented = {"round_id", "completed_devices", "total_devices", "progress_percentage"}
            assert documented <= set(one["data"])
        figures = [(one["data"]["completed_devices"], one["data"]["progress_percentage"]) for one in progress]
        assert figures == sorted(figures)
        assert (figures[0], figures[-1]) == ((0, 0), (2, 100))
        assert {one["data"]["total_devices"] for one in progress} == {2}
        assert said[-1]["data"]["status"] == "completed"


def test_a_refused_update_is_told_to_those_who_watch_and_counted(
    talkative: Fleet, two: tuple[Device, Device], heard: dict[str, ClientConnection]
) -> None:
    started = talkative.start()
    talkative.recruiting(started["id"])
    for device in two:
        device.join(started["id"])
    villain = Attacker(talkative, two[0], started["id"])
    envelope = villain.envelope()
    before = refused(talkative)
    assert code_of(villain.submit(envelope[:-1])) == (422, "INVALID_QUANTUM_KEY")
    told = until(heard["security"], "update_refused")[-1]["data"]
    assert (told["round_id"], told["device_id"]) == (started["id"], two[0].id)
    assert "cut off" in told["reason"]
    assert refused(talkative) == before + 1
    both(two, started["id"])
    assert talkative.over(started["id"])["progress"]["completed_devices"] == 2
    said = until(heard["training"], "round_ended")
    assert "update_refused" not in {one["type"] for one in said}


def refused(fleet: Fleet) -> float:
    """How many submissions were refused, as Prometheus reads it."""
    page = fleet.http.get("/api/v1/monitoring/metrics").text
    route = re.escape("/api/v1/fl/rounds/{round_id}/submit")
    counted = rf'tg_http_requests_total{{method="POST",route="{route}",status="422"}} (\S+)'
    found = re.search(counted, page)
    return 0.0 if found is None else float(found[1])


def test_other_systems_hear_of_a_round_by_webhook(talkative: Fleet, two: tuple[Device, Device]) -> None:
    with WebhookReceiver() as receiver:
        asked = {"url": receiver.url, "events": ROUNDS}
        hook = talkative.http.post("/workbench/v1/webhooks", json=asked).json()
        good = talkative.start()
        talkative.recruiting(good["id"])
        both(two, good["id"])
        bad = talkative.start(recruiting_seconds=1.0)
        talkative.over(bad["id"])
        received = receiver.until(lambda got: len(got) >= 4)
        talkative.http.delete(f"/workbench/v1/webhooks/{hook['webhook_id']}")
    assert all(is_genuine(request, hook["secret"]) for request in received)
    bodies = [request.json for request in received]
    for body in bodies:
        assert {"event", "timestamp", "data", "webhook_id", "signature"} <= set(body)
        assert body["data"]["organization_id"] == "local"
    told = {(body["event"], body["data"]["round_id"]): body["data"] for body in bodies}
    assert set(told) == {(event, each["id"]) for event in ROUNDS for each in (good, bad)}
    assert told[ROUNDS[0], good["id"]]["target_participants"] == 2
    done = told[ROUNDS[1], good["id"]]
    assert (done["status"], done["completed_devices"], done["model_version"]) == ("completed", 2, "v1")
    assert told[ROUNDS[1], bad["id"]]["status"] == "failed"
