"""What the rounds of an organisation's devices may spend, and who decides it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.federation.attacking import asked
from tests.federation.conftest import Fleet
from tests.workbench_server import WorkbenchServer
from tg_workbench import Workbench
from tg_workbench.identity import ApiKeys, Principal
from tg_workbench.storage import Database

BUDGET = "/workbench/v1/federation/budget"
EXAMPLE = {
    "model_config": {"architecture": "cnn"},
    "privacy_settings": {"differential_privacy": True, "noise_level": 0.1},
}


@pytest.fixture
def people(workbench_server: WorkbenchServer) -> Iterator[httpx.Client]:
    """Somebody with an organisation of their own, whose fleet nobody has used."""
    with workbench_server.client() as http:
        name = f"ward{uuid.uuid4().hex[:8]}"
        account = {"username": name, "email": f"{name}@example.org", "password": "correct horse battery 7"}
        assert http.post("/workbench/v1/account", json=account).status_code == 201
        signed_in = {"login": name, "password": account["password"]}
        session = http.post("/workbench/v1/sessions", json=signed_in).json()
        http.headers["Authorization"] = f"Bearer {session['access_token']}"
        yield http


def test_an_administrator_raises_the_cap_and_then_the_documents_example_runs(people: httpx.Client) -> None:
    fresh = people.get(BUDGET).json()
    assert (fresh["unit"], fresh["spent_epsilon"], fresh["epsilon_cap"]) == ("device", 0.0, 10.0)
    refused = people.post("/api/v1/fl/rounds", json=EXAMPLE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "PRIVACY_REFUSED")
    raised = people.put(BUDGET, json={"epsilon_cap": 500})
    assert (raised.status_code, raised.json()["epsilon_cap"]) == (200, 500.0)
    started = people.post("/api/v1/fl/rounds", json=EXAMPLE)
    assert started.status_code == 201, started.text
    assert "practically no guarantee" in started.json()["privacy"]["warning"]
    people.delete(f"/workbench/v1/federation/campaigns/{started.json()['campaign_id']}")


@pytest.mark.parametrize(
    ("change", "status"),
    [({"epsilon_cap": 9}, 422), ({"epsilon_cap": 0}, 422), ({"delta": 0.5}, 422), ({"magic": 1}, 422)],
)
def test_a_budget_that_cannot_be_is_refused(
    people: httpx.Client, change: dict[str, float], status: int
) -> None:
    assert people.put(BUDGET, json=change).status_code == status
    assert people.get(BUDGET).json()["epsilon_cap"] == 10.0


def test_a_fleet_may_refuse_rounds_without_privacy(people: httpx.Client) -> None:
    assert people.put(BUDGET, json={"require_privacy": True}).json()["require_privacy"]
    plain = people.post("/api/v1/fl/rounds", json={"model_config": {"architecture": "cnn"}})
    assert plain.status_code == 400
    assert "only learn with differential privacy" in plain.text


def monitor_of(fleet: Fleet, tenant_id: str) -> httpx.Client:
    """Somebody who monitors an organisation: only the workbench's operator gives that away."""
    watcher = Principal("watcher", tenant_id, frozenset({"monitoring"}))
    database = Database(fleet.server.database_url)
    with database.write() as session:
        _, secret = ApiKeys(session).issue(watcher, "watch", ["monitoring"])
    database.close()
    http = fleet.server.client()
    http.headers["Authorization"] = f"Bearer {secret}"
    return http


def test_a_fleet_near_its_cap_raises_an_alert_and_tells_its_administrator(
    people: httpx.Client, fleet: Fleet
) -> None:
    people.put(BUDGET, json={"epsilon_cap": 20})
    newest = "SELECT id, tenant_id FROM fleets ORDER BY created_at DESC LIMIT 1"
    ((fleet_id, tenant_id),) = asked(fleet.server.home, newest)
    asked(fleet.server.home, "UPDATE fleets SET spent_epsilon = 17 WHERE id = ?", fleet_id)
    fleet.http.post("/workbench/v1/alert_rules/budget_near_cap", json={"enabled": True})  # looks at once
    deadline = time.monotonic() + 30
    told: list[Any] = []
    while not told:
        assert time.monotonic() < deadline, "nobody was told"
        time.sleep(0.1)
        told = people.get("/workbench/v1/notifications").json()["notifications"]
    assert (told[0]["event"], told[0]["data"]["subject"]) == ("privacy.budget_near_cap", fleet_id)
    with monitor_of(fleet, tenant_id) as monitor:
        (alert,) = monitor.get("/workbench/v1/alerts").json()["alerts"]
        (shown,) = monitor.get("/api/v1/monitoring/alerts").json()["alerts"]
        page = monitor.get("/api/v1/monitoring/metrics").text
    assert (alert["rule"], alert["state"], alert["subject"]) == ("budget_near_cap", "firing", fleet_id)
    assert alert["message"].startswith("the fleet of ward")
    assert alert["message"].endswith("spent ε = 17.00 of 20.00")
    assert shown["id"] == alert["alert_id"]
    assert f'tg_fleet_epsilon_spent{{fleet="{fleet_id}"}} 17.0' in page
    assert f'tg_fleet_epsilon_cap{{fleet="{fleet_id}"}} 20.0' in page
    assert fleet_id not in fleet.http.get("/api/v1/monitoring/metrics").text


def test_the_sdk_reads_it_and_every_release_is_in_the_ledger(fleet: Fleet) -> None:
    wb = Workbench(socket=str(fleet.server.socket), api_key=fleet.server.api_key)
    budget = wb.federation.budget()
    assert budget.unit == "device"
    assert str(budget).startswith("ε = ")
    releases = fleet.http.get(f"{BUDGET}/ledger").json()["releases"]
    assert [each["id"] for each in releases] == sorted(each["id"] for each in releases)
    again = wb.federation.set_budget(epsilon_cap=budget.epsilon_cap)
    assert again.epsilon_cap == budget.epsilon_cap
