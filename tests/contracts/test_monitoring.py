"""QFLARE's status, metrics, alerts and logs, and API Coordination's statistics, as their callers see them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import unix_connect

from tests.contracts.conftest import Caller
from tests.contracts.envelopes import refusal
from tests.contracts.people import PASSWORD
from tests.workbench_server import WorkbenchServer
from tg_workbench.identity import ApiKeys, Principal
from tg_workbench.storage import Database

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
METRICS, ALERTS, LOGS = (f"/api/v1/monitoring/{name}" for name in ("metrics", "alerts", "logs"))
TEXTS = ["one", "two", "three"]
PROTECTED: dict[str, Any] = {"name": "people", "texts": TEXTS, "delta": 1e-5}
PUBLIC: dict[str, Any] = {
    "name": "book",
    "texts": ["a book", "that anybody", "may read"],
    "privacy": "public",
}
HERS = Principal("eve", "eves", frozenset({"read", "monitoring", "datasets", "train", "admin"}))


@pytest.fixture
def eve(workbench_server: WorkbenchServer) -> Iterator[httpx.Client]:
    """Somebody of another tenant, who monitors it."""
    database = Database(workbench_server.database_url)
    with database.write() as session:
        _, secret = ApiKeys(session).issue(HERS, "hers", list(HERS.scopes))
    database.close()
    with workbench_server.client() as http:
        http.headers["Authorization"] = f"Bearer {secret}"
        yield http


def scrape(http: httpx.Client) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample, by name and labels."""
    answer = http.get(METRICS)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def until(look: Callable[[], Any], seconds: float = 20) -> Any:
    """What a look gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return seen


# ----------------------------------------------------------------------------- S2-04
@pytest.mark.operation("S2-04")
def test_the_status_has_the_documents_members_and_true_figures(api: httpx.Client) -> None:
    api.get("/version")
    status = api.get("/api/v1/status").json()
    assert set(status["federated_learning"]) == {"active_rounds", "total_devices", "online_devices"}
    assert set(status["security"]) == {"quantum_keys_rotation", "last_security_scan"}
    assert until(lambda: api.get("/api/v1/status").json()["security"]["last_security_scan"])[-1] == "Z"
    assert set(status["performance"]) == {"avg_response_time", "memory_usage", "cpu_usage"}
    assert 0 < status["performance"]["avg_response_time"] < 60_000
    assert 0 < status["performance"]["memory_usage"] <= 100
    assert 0 <= status["performance"]["cpu_usage"] <= 100


# ----------------------------------------------------------------------------- S2-26
@pytest.mark.operation("S2-26")
def test_metrics_count_requests_by_template_and_never_by_path(api: httpx.Client) -> None:
    for number in range(3):
        api.get(f"/api/v1/training_clients/tc-hidden-{number}")
        api.get(f"/hidden-{number}")
    answer, counted = api.get(METRICS).text, scrape(api)["tg_http_requests_total"]
    assert "hidden" not in answer
    label = {"method": "GET", "route": "/api/v1/training_clients/{client_id}", "status": "404"}
    assert counted[tuple(sorted(label.items()))] >= 3
    assert counted[tuple(sorted({"method": "GET", "route": "(none)", "status": "404"}.items()))] >= 3


def test_metrics_count_clients_operations_workers_and_the_database(caller: Caller, client_id: str) -> None:
    caller.step(client_id)
    samples = scrape(caller.http)
    assert samples["tg_operations"][("kind", "optim_step"), ("status", "completed")] >= 1
    assert samples["tg_training_clients"][(("status", "ready"),)] >= 1
    assert samples["tg_training_steps"][()] >= 1
    assert samples["tg_workers"][(("state", "running"),)] >= 1
    assert samples["tg_database_size_bytes"][()] > 10_000
    assert samples["tg_database_answer_seconds"][()] > 0
    assert samples["tg_alerts_firing"][(("rule", "budget_near_cap"),)] >= 0
    assert samples["tg_webhook_deliveries"][(("status", "pending"),)] >= 0
    assert {"tg_queue_depth", "tg_training_runs", "process_resident_memory_bytes"} <= set(samples)


def test_no_raw_loss_is_a_metric(caller: Caller, client_id: str) -> None:
    caller.step(client_id)
    assert "loss" not in caller.http.get(METRICS).text.lower()


def test_a_dataset_is_named_to_its_own_tenant_only(api: httpx.Client, eve: httpx.Client) -> None:
    ours = api.post("/workbench/v1/datasets", json=PROTECTED).json()["dataset_id"]
    hers = eve.post("/workbench/v1/datasets", json={**PROTECTED, "name": "hers"}).json()["dataset_id"]
    assert scrape(api)["tg_dataset_epsilon_cap"][(("dataset", ours),)] == 10
    assert ours not in eve.get(METRICS).text
    assert hers not in api.get(METRICS).text
    assert scrape(eve)["tg_dataset_epsilon_spent"] == {(("dataset", hers),): 0}


@pytest.mark.operation("S2-04")
def test_another_tenant_sees_nothing_of_the_machine(eve: httpx.Client, client_id: str) -> None:
    samples = scrape(eve)
    assert sum(samples["tg_training_clients"].values()) == 0
    assert not [
        name for name in samples if name.startswith(("tg_http", "tg_workers", "tg_database", "process"))
    ]
    assert refusal(eve.get(LOGS), "qflare").code == "INSUFFICIENT_PERMISSIONS"
    refused = eve.post("/workbench/v1/alert_rules/worker_lost", json={"enabled": False})
    assert refusal(refused, "workbench").code == "PERMISSION_DENIED"


def test_listeners_and_firing_alerts_are_counted(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    headers = {"X-API-Key": workbench_server.api_key}
    url = "ws://workbench/ws/security"
    with unix_connect(str(workbench_server.socket), url, additional_headers=headers) as websocket:
        websocket.recv(20)
        assert scrape(api)["tg_websocket_listeners"][(("channel", "security"),)] >= 1
    until(lambda: scrape(api)["tg_websocket_listeners"][(("channel", "security"),)] == 0)


# ----------------------------------------------------------------------------- S2-27
@pytest.fixture
def firing(api: httpx.Client) -> Iterator[dict[str, Any]]:
    """An alert: the disk is fuller than a threshold that any disk passes."""
    rule = "/workbench/v1/alert_rules/disk_nearly_full"
    assert api.post(rule, json={"threshold": 1e-9, "severity": "info"}).status_code == 200
    (alert,) = until(lambda: [a for a in api.get(ALERTS).json()["alerts"] if a["type"] == "disk_nearly_full"])
    yield alert
    api.post(rule, json={"threshold": 0.999999, "severity": "critical"})
    until(lambda: [a for a in api.get(ALERTS).json()["alerts"] if a["type"] == "disk_nearly_full"] == [])


@pytest.mark.operation("S2-27")
def test_an_alert_fires_at_its_threshold_and_resolves_below_it(
    api: httpx.Client, firing: dict[str, Any]
) -> None:
    assert (firing["severity"], firing["status"], firing["subject"]) == ("info", "active", "disk")
    assert TIME.fullmatch(firing["triggered_at"])
    api.post("/workbench/v1/alert_rules/disk_nearly_full", json={"threshold": 0.999999})
    (same,) = until(
        lambda: [
            alert
            for alert in api.get("/workbench/v1/alerts", params={"state": "resolved"}).json()["alerts"]
            if alert["alert_id"] == firing["id"]
        ]
    )
    assert same["fired_at"] <= same["resolved_at"]
    api.post("/workbench/v1/alert_rules/disk_nearly_full", json={"threshold": 1e-9})
    again = until(lambda: [a for a in api.get(ALERTS).json()["alerts"] if a["type"] == "disk_nearly_full"])
    assert again[0]["id"] != firing["id"]


def test_an_alert_is_acknowledged_once_and_fires_on(api: httpx.Client, firing: dict[str, Any]) -> None:
    path = f"/workbench/v1/alerts/{firing['id']}/acknowledge"
    first, second = api.post(path).json(), api.post(path).json()
    assert first["acknowledged_by"] == "local"
    assert first == second
    shown = [alert for alert in api.get(ALERTS).json()["alerts"] if alert["id"] == firing["id"]]
    assert shown[0]["status"] == "acknowledged"


def test_an_alert_of_another_tenant_is_not_there(eve: httpx.Client, firing: dict[str, Any]) -> None:
    assert eve.get(ALERTS).json() == {"alerts": []}
    assert eve.post(f"/workbench/v1/alerts/{firing['id']}/acknowledge").status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"threshold": 0}, {"threshold": "high"}, {"severity": "meh"}, {"colour": "red"}], ids=str
)
def test_a_rule_takes_only_what_makes_sense(api: httpx.Client, body: dict[str, Any]) -> None:
    assert api.post("/workbench/v1/alert_rules/worker_lost", json=body).status_code == 422
    assert api.post("/workbench/v1/alert_rules/none", json={"enabled": True}).status_code == 404


def test_the_rules_are_those_of_the_conditions(api: httpx.Client) -> None:
    rules = {rule["rule"] for rule in api.get("/workbench/v1/alert_rules").json()["alert_rules"]}
    assert rules == {"audit_broken", "budget_near_cap", "disk_nearly_full", "webhook_disabled", "worker_lost"}


# ----------------------------------------------------------------------------- S2-28
@pytest.mark.operation("S2-28")
def test_logs_are_found_by_level_component_and_time(api: httpx.Client) -> None:
    time.sleep(0.01)  # lines say when to the millisecond, and the last test's request is not ours
    before = datetime.now(UTC)
    answer = api.get("/nowhere-to-be-seen")
    query = {"level": "info", "component": "requests", "since": before.isoformat(), "limit": "5"}
    (line, *_) = [
        line
        for line in api.get(LOGS, params=query).json()["logs"]
        if line["request_id"] == answer.headers["x-request-id"]
    ]
    assert (line["level"], line["component"], line["message"]) == ("info", "requests", "request")
    assert line["details"]["status"] == 404
    assert api.get(LOGS, params={**query, "until": before.isoformat()}).json() == {"logs": []}
    assert api.get(LOGS, params={**query, "level": "error"}).json() == {"logs": []}


def test_logs_hold_no_secret_and_nothing_of_a_request(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    api.get("/nowhere", params={"token": "opensesame"}, headers={"X-Secret": "opensesame"})
    shown = api.get(LOGS, params={"limit": 1000}).text
    assert "opensesame" not in shown
    assert workbench_server.api_key not in shown


@pytest.mark.operation("S2-28")
@pytest.mark.parametrize(
    "query",
    [
        {"level": "loud"},
        {"since": "yesterday"},
        {"since": "1700000000"},
        {"until": "0001-01-01T00:00:00+14:00"},
        {"limit": "0"},
        {"component": "../x"},
    ],
    ids=str,
)
def test_a_query_that_makes_no_sense_is_refused(api: httpx.Client, query: dict[str, str]) -> None:
    assert refusal(api.get(LOGS, params=query), "qflare").status == 422


@pytest.mark.parametrize("time", ["1970-01-01", "2999-12-31T23:59:59-14:00", "2024-01-15T10:30:00"], ids=str)
def test_any_time_of_this_age_can_be_asked_for(api: httpx.Client, time: str) -> None:
    assert api.get(LOGS, params={"since": time, "until": time}).json() == {"logs": []}


# ----------------------------------------------------------------------------- S4-01
@pytest.mark.operation("S4-01")
def test_training_stats_open_for_a_session_and_for_a_key_with_the_documents_scope(
    stranger: httpx.Client, api: httpx.Client
) -> None:
    key = api.post("/workbench/v1/api_keys", json={"name": "stats", "scopes": ["training"]}).json()
    assert sorted(key["scopes"]) == ["read", "train"]
    assert stranger.get("/api/training/stats", headers={"X-API-Key": key["key"]}).status_code == 200
    account = {
        "username": f"u{time.time_ns()}",
        "email": f"u{time.time_ns()}@example.org",
        "password": PASSWORD,
    }
    token = stranger.post("/api/v1/auth/register", json=account).json()["data"]["token"]
    answer = stranger.get("/api/training/stats", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == dict.fromkeys(answer.json(), 0)
    refused = stranger.get("/api/training/stats")
    assert (refused.status_code, refused.json()["error"]) == (401, "Missing authorization header")
