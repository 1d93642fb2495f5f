"""Devices over HTTP: listed, changed and sent away as documented, and missed when they are away."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from tests.contracts.machines import INFO, Keys, Machine, code_of, revoked, serial_of
from tests.contracts.people import People, Person
from tests.webhook_receiver import WebhookReceiver
from tests.workbench_server import WorkbenchServer

DEVICES, ROTATE = "/api/v1/devices", "/api/v1/security/keys/rotate"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.mark.operation("S2-05")
def test_devices_are_listed_as_documented(people: People) -> None:
    owner = people.register("fleet")
    machines = [Machine.enroll(owner) for _ in range(3)]
    answer = owner.http.get(DEVICES, params={"page": 1, "size": 2}).json()
    assert answer["pagination"] == {"page": 1, "size": 2, "total": 3, "pages": 2}
    assert [one["id"] for one in answer["devices"]] == [machines[2].id, machines[1].id]
    (first,) = owner.http.get(DEVICES, params={"page": 2, "size": 2}).json()["devices"]
    assert {
        "id",
        "name",
        "status",
        "organization_id",
        "last_seen",
        "capabilities",
        "security",
        "training",
    } <= set(first)
    assert (first["id"], first["status"]) == (machines[0].id, "online")
    assert first["capabilities"] == {"cpu_cores": 4, "memory_gb": 4, "storage_gb": 64, "gpu": False}
    assert first["security"]["quantum_key_version"] == "v1.0"
    assert first["training"] == {
        "current_round": None,
        "total_rounds_completed": 0,
        "avg_training_time": 0.0,
    }
    for moment in (first["last_seen"], first["security"]["certificate_expiry"]):
        assert TIME.fullmatch(moment)


@pytest.mark.operation("S2-05")
def test_devices_are_filtered_by_status_and_organization(
    people: People, api: httpx.Client, bob: Person
) -> None:
    owner = people.register("fleet")
    here, gone = Machine.enroll(owner), Machine.enroll(owner)
    owner.http.post(f"{gone.path}/revoke")
    by_status = {
        status: [one["id"] for one in owner.http.get(DEVICES, params={"status": status}).json()["devices"]]
        for status in ("online", "offline", "training")
    }
    assert by_status == {"online": [here.id], "offline": [gone.id], "training": []}
    ours = {"organization": owner.organization_id}
    assert owner.http.get(DEVICES, params=ours).json()["pagination"]["total"] == 2
    assert api.get(DEVICES, params=ours).json()["pagination"]["total"] == 2
    assert bob.http.get(DEVICES, params=ours).status_code == 404
    assert owner.http.get(DEVICES, params={"status": "asleep"}).status_code == 422
    assert owner.http.get(DEVICES, params={"size": 101}).status_code == 422


@pytest.mark.operation("S2-07")
def test_a_device_is_got_by_its_id(alice: Person, bob: Person, old: Machine) -> None:
    assert old.shown_to(alice)["id"] == old.id
    for who, device_id in ((bob, old.id), (alice, "dev_invalid")):
        answer = who.http.get(f"{DEVICES}/{device_id}")
        assert code_of(answer) == (404, "DEVICE_NOT_FOUND")
        assert device_id not in answer.text


@pytest.mark.operation("S2-08")
def test_a_devices_configuration_is_updated_and_reaches_it(alice: Person, edge: Machine) -> None:
    change = {
        "name": "Barn",
        "capabilities": {"gpu": True},
        "config": {"update_interval": 60, "training_config": {"batch_size": 8}},
    }
    changed = alice.http.put(f"{DEVICES}/{edge.id}", json=change).json()
    assert (changed["name"], changed["capabilities"]["gpu"]) == ("Barn", True)
    assert changed["capabilities"]["cpu_cores"] == 4
    config = edge.beat().json()["config"]
    assert config["update_interval"] == 60
    assert config["training_config"] == {"batch_size": 8, "learning_rate": 0.001}
    too_much = {"config": {"training_config": {"learning_rate": -1}}}
    assert code_of(alice.http.put(f"{DEVICES}/{edge.id}", json=too_much)) == (422, "VALIDATION_ERROR")


@pytest.mark.operation("S2-09")
def test_a_deregistered_device_is_gone_at_once(alice: Person, edge: Machine, stranger: httpx.Client) -> None:
    assert alice.http.delete(f"{DEVICES}/{edge.id}").status_code == 200
    assert code_of(alice.http.get(f"{DEVICES}/{edge.id}")) == (404, "DEVICE_NOT_FOUND")
    assert code_of(edge.beat(), "workbench") == (403, "DEVICE_REVOKED")
    assert code_of(edge.show(edge.assertion()), "workbench") == (403, "DEVICE_REVOKED")
    assert serial_of(edge) in revoked(stranger)


# ----------------------------------------------------------------------------- here and away
@pytest.fixture(scope="module")
def quick() -> Iterator[WorkbenchServer]:
    """A workbench that may call this machine."""
    server = WorkbenchServer(TG_WEBHOOK_ALLOW_LOOPBACK="true")
    yield server
    server.stop()


def test_a_device_that_is_not_seen_is_missed_once_and_comes_back(quick: WorkbenchServer) -> None:
    people = People(quick)
    owner = people.register("owner")
    with WebhookReceiver() as receiver:
        events = ["device.registered", "device.offline", "security.key_rotated"]
        hook = owner.http.post("/workbench/v1/webhooks", json={"url": receiver.url, "events": events})
        assert hook.status_code == 201, hook.text
        away, here = Machine.enroll(owner), Machine.enroll(owner)
        for machine in (away, here):
            change = {"config": {"update_interval": 1 if machine is away else 300}}
            assert owner.http.put(f"{DEVICES}/{machine.id}", json=change).status_code == 200
        offline = receiver.until(lambda got: any(one.json["event"] == "device.offline" for one in got))
        assert away.shown_to(owner)["status"] == "offline"
        assert here.shown_to(owner)["status"] == "online"
        assert owner.http.get("/api/v1/status").json()["federated_learning"] == {
            "active_rounds": 0,
            "total_devices": 2,
            "online_devices": 1,
        }
        assert owner.http.get("/api/v1/status").json()["security"]["quantum_keys_rotation"]
        away.beat()
        assert away.shown_to(owner)["status"] == "online"
        here.post("keys", Keys.new().as_body())
        received = receiver.until(lambda got: any(one.json["event"] == "security.key_rotated" for one in got))
        told = Counter((one.json["event"], one.json["data"].get("device_id")) for one in received)
        assert told["device.registered", away.id] == told["device.registered", here.id] == 1
        assert told["device.offline", here.id] == 0
        assert sum(one.json["event"] == "device.offline" for one in offline) == 1
        (registered,) = [
            one.json["data"]
            for one in received
            if one.json["event"] == "device.registered" and one.json["data"]["device_id"] == here.id
        ]
        assert registered == {
            "device_id": here.id,
            "organization_id": owner.organization_id,
            "device_name": INFO["name"],
        }
    people.close()


def test_each_device_has_its_own_hundred_requests_a_minute() -> None:
    server = WorkbenchServer(TG_RATE_LIMITS="on")
    try:
        people = People(server)
        owner = people.register("owner")
        busy, other = Machine.enroll(owner), Machine.enroll(owner)
        first = busy.beat()
        assert first.headers["x-ratelimit-limit"] == "100"
        left = int(first.headers["x-ratelimit-remaining"])
        found = Counter(busy.beat().status_code for _ in range(left + 5))
        assert found == {200: left, 429: 5}
        assert other.beat().status_code == 200
        people.close()
    finally:
        server.stop()


def test_a_thousand_devices_are_listed_and_beat_quickly(
    people: People, workbench_server: WorkbenchServer
) -> None:
    owner = people.register("fleet")
    machine = Machine.enroll(owner)
    with closing(sqlite3.connect(workbench_server.home / "tgsp.db", timeout=30)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(devices)")]
        others = ", ".join(
            f"'dev_' || value || '_{machine.id}'" if name == "id" else name for name in columns
        )
        connection.execute(
            f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 999) "  # noqa: S608
            f"INSERT INTO devices ({', '.join(columns)}) SELECT {others} FROM devices, n WHERE id = ?",
            (machine.id,),
        )
        connection.commit()

    def median(ask: Callable[[], httpx.Response]) -> float:
        took = []
        for _ in range(15):
            began = time.perf_counter()
            assert ask().status_code == 200
            took.append(time.perf_counter() - began)
        return sorted(took)[len(took) // 2]

    page: dict[str, str | int] = {"size": 100, "status": "online"}
    assert owner.http.get(DEVICES, params=page).json()["pagination"]["total"] == 1000
    nothing = median(lambda: owner.http.get("/api/v1/auth/me"))
    assert median(lambda: owner.http.get(DEVICES, params=page)) < 0.2 + 10 * nothing
    assert median(machine.beat) < 0.1 + 5 * nothing
    owner.http.post(ROTATE, json={})
