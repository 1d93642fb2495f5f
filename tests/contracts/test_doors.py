"""Nobody gets in without a credential, and nobody does what theirs does not allow."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.contracts.conftest import Caller
from tests.contracts.envelopes import refusal
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import contract_routes
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.identity import SCOPES

PUBLIC = {"/health", "/ready", "/live", "/version", "/api/v1/health"}
CLOSED = [route for route in contract_routes() if route.path not in PUBLIC]


def ask(http: httpx.Client, route: ContractRoute, **headers: str) -> httpx.Response:
    """Call a route with ids of nothing and no body."""
    (method,) = route.methods or {"GET"}
    return http.request(method, re.sub(r"{\w+}", "none", route.path), headers=headers)


def name_of(route: ContractRoute) -> str:
    return f"{','.join(route.methods or ())} {route.path}"


def test_only_the_probes_are_public() -> None:
    assert {route.path for route in contract_routes() if route.is_public} == PUBLIC


@pytest.mark.parametrize("route", CLOSED, ids=name_of)
def test_every_route_asks_for_a_credential(stranger: httpx.Client, route: ContractRoute) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic dGd3OnRndw=="},
        {"Authorization": f"Bearer tgw-{'A' * 43}"},
        {"X-API-Key": "nobody's"},
    ):
        answer = ask(stranger, route, **headers)
        assert refusal(answer, route.contract.name).status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture(scope="module")
def keys(api: httpx.Client) -> Iterator[dict[str, str]]:
    """One key per scope."""
    issued = {
        scope: api.post("/workbench/v1/api_keys", json={"name": scope, "scopes": [scope]}).json()
        for scope in SCOPES
    }
    yield {scope: key["key"] for scope, key in issued.items()}
    for key in issued.values():
        api.delete(f"/workbench/v1/api_keys/{key['key_id']}")


@pytest.mark.parametrize("route", CLOSED, ids=name_of)
def test_every_route_asks_for_its_scope_and_no_other(
    stranger: httpx.Client, keys: dict[str, str], route: ContractRoute
) -> None:
    for scope, key in keys.items():
        answer = ask(stranger, route, **{"X-API-Key": key})
        assert (answer.status_code == 403) == (scope != route.needed_scope), answer.text
        if answer.status_code == 403:
            refusal(answer, route.contract.name)


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
@pytest.mark.parametrize("prefix", ["", "tml-"])
def test_a_key_may_come_in_either_header_and_as_a_tinker_key(
    stranger: httpx.Client, keys: dict[str, str], header: str, prefix: str
) -> None:
    value = prefix + keys["read"]
    value = f"Bearer {value}" if header == "Authorization" else value
    assert stranger.get("/api/v1/training_clients", headers={header: value}).status_code == 200


def test_a_proxys_own_token_does_not_stand_in_the_way(stranger: httpx.Client, keys: dict[str, str]) -> None:
    headers = {"Authorization": "token of-the-notebook-server", "X-API-Key": keys["read"]}
    assert stranger.get("/api/v1/training_clients", headers=headers).status_code == 200


def test_a_revoked_key_opens_nothing(api: httpx.Client, stranger: httpx.Client) -> None:
    issued = api.post("/workbench/v1/api_keys", json={"name": "lost"}).json()
    assert issued["scopes"] == ["read", "train", "datasets"]
    assert issued["key"].endswith(issued["last_four"])
    headers = {"X-API-Key": issued["key"]}
    assert stranger.get("/api/v1/training_clients", headers=headers).status_code == 200
    assert api.delete(f"/workbench/v1/api_keys/{issued['key_id']}").json() == {"deleted": True}
    assert stranger.get("/api/v1/training_clients", headers=headers).status_code == 401


def test_keys_are_listed_without_their_secret(api: httpx.Client, keys: dict[str, str]) -> None:
    answer = api.get("/workbench/v1/api_keys")
    assert answer.json()["total"] >= len(keys)
    assert all(key not in answer.text for key in keys.values())


def test_a_key_cannot_make_one_that_can_do_more(stranger: httpx.Client, keys: dict[str, str]) -> None:
    body = {"name": "more", "scopes": ["keys", "train"]}
    answer = stranger.post("/workbench/v1/api_keys", json=body, headers={"X-API-Key": keys["keys"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PERMISSION_DENIED")


def test_the_secret_of_a_key_is_answered_once(api: httpx.Client, key: str) -> None:
    body, headers = {"name": "once"}, {"Idempotency-Key": key}
    assert api.post("/workbench/v1/api_keys", json=body, headers=headers).status_code == 201
    assert api.post("/workbench/v1/api_keys", json=body, headers=headers).status_code == 409


def test_a_credential_is_asked_for_before_the_body_is_read(stranger: httpx.Client) -> None:
    answer = stranger.post(
        "/api/v1/training_clients", content=b"{not json", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 401


def test_no_secret_and_no_input_is_in_the_log(workbench_server: WorkbenchServer, caller: Caller) -> None:
    marker = "row-of-patient-0815"
    caller.http.post("/api/v1/training_clients", json={"model_ref": marker})
    caller.http.get(f"/{marker}", params={"query": marker})
    log = workbench_server.log.read_text(errors="replace")
    assert marker not in log
    assert workbench_server.api_key not in log
    assert not re.search(r"tgw-[A-Za-z0-9_-]{20,}", log)
