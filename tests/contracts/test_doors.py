"""Nobody gets in without a credential, and nobody does what theirs does not allow."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.contracts.conftest import Caller
from tests.contracts.doors import (
    AMONG_MEMBERS,
    BODIES,
    FOR_PEOPLE,
    IN_ROUNDS,
    IN_SIGHT_ONLY,
    NAMED_ELSEWHERE,
    NEEDED,
    OF_DEVICES,
    OF_THE_OPERATOR,
    PUBLIC,
    SCOPES,
    name_of,
)
from tests.contracts.envelopes import refusal
from tests.contracts.machines import Machine
from tests.contracts.people import PASSWORD, People, Person
from tests.learned import principal_of, put_model
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import contract_routes
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.crypto.access_tokens import AccessToken, AccessTokens
from tg_workbench.identity import ROLES

CLOSED = [route for route in contract_routes() if name_of(route) not in PUBLIC]
WITH_IDS = [
    route
    for route in CLOSED
    if "{" in route.path and name_of(route) not in OF_THE_OPERATOR | OF_DEVICES | IN_ROUNDS
]


def ask(http: httpx.Client, route: ContractRoute, **headers: str) -> httpx.Response:
    """Call a route with ids of nothing and no body."""
    (method,) = route.methods or {"GET"}
    return http.request(method, re.sub(r"{\w+}", "none", route.path), headers=headers)


def test_every_route_has_a_line_and_asks_for_what_it_says() -> None:
    found = {
        name_of(route): "public" if route.is_public else route.needed_scope for route in contract_routes()
    }
    assert found == dict.fromkeys(PUBLIC, "public") | NEEDED


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
        is_refused = scope != route.needed_scope or name_of(route) in FOR_PEOPLE
        assert (answer.status_code == 403) == is_refused, answer.text
        if answer.status_code == 403:
            refusal(answer, route.contract.name)


# ----------------------------------------------------------------------------- what was good once
@pytest.fixture(scope="module")
def stale(workbench_server: WorkbenchServer, people: People, alice: Person) -> dict[str, dict[str, str]]:
    """Headers that opened doors once, by why they do no longer."""
    tokens = AccessTokens(workbench_server.home)
    long_ago = replace(tokens.read(alice.signed_in["access_token"]), issued_at=int(time.time()) - 3600)
    signed_out, removed, closed = people.register(), people.invite(alice, "judy"), people.register()
    keys = {
        person.name: person.http.post("/workbench/v1/api_keys", json={"name": "job"}).json()
        for person in (alice, removed, closed)
    }
    alice.http.delete(f"/workbench/v1/api_keys/{keys[alice.name]['key_id']}")
    brief = {"name": "brief", "expires_in_days": 1e-9}
    expired = alice.http.post("/workbench/v1/api_keys", json=brief).json()
    signed_out.http.delete("/workbench/v1/sessions/current")
    alice.http.delete(f"/workbench/v1/members/{removed.user_id}")
    closed.http.post("/workbench/v1/account/close", json={"password": PASSWORD})
    return {
        "an expired token": {"Authorization": f"Bearer {tokens.sign(long_ago)}"},
        "a token of another workbench": {"Authorization": f"Bearer {elsewhere(long_ago)}"},
        "a session that was signed out": {"Authorization": signed_out.http.headers["Authorization"]},
        "a session of a removed member": {"Authorization": removed.http.headers["Authorization"]},
        "a session of a closed account": {"Authorization": closed.http.headers["Authorization"]},
        "a revoked key": {"X-API-Key": keys[alice.name]["key"]},
        "an expired key": {"X-API-Key": expired["key"]},
        "a key of a removed member": {"X-API-Key": keys[removed.name]["key"]},
        "a key of a closed account": {"X-API-Key": keys[closed.name]["key"]},
    }


def elsewhere(token: AccessToken) -> str:
    """The same token as another workbench would sign it."""
    with tempfile.TemporaryDirectory() as home:
        return AccessTokens(Path(home)).sign(replace(token, issued_at=int(time.time())))


@pytest.mark.parametrize("route", CLOSED, ids=name_of)
def test_no_route_opens_to_what_was_good_once(
    stranger: httpx.Client, stale: dict[str, dict[str, str]], route: ContractRoute
) -> None:
    for why, headers in stale.items():
        assert refusal(ask(stranger, route, **headers), route.contract.name).status == 401, why


# ----------------------------------------------------------------------------- what is somebody else's
def finished_job(person: Person) -> str:
    """A job that has come to its end."""
    features = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    rows = save({"features": features, "targets": (features.sum(axis=1) > 0).astype(np.int64)})
    headers = {"Content-Type": "application/vnd.safetensors"}
    query = {"name": "flowers", "privacy": "public"}
    dataset = person.http.post("/workbench/v1/datasets", params=query, content=rows, headers=headers).json()
    body = {"dataset_id": dataset["dataset_id"], "model_type": "mlp", "learning": {"epochs": 1}}
    job = person.http.post("/workbench/v1/jobs", json=body).json()["id"]
    for _ in range(1200):
        if person.http.get(f"/training/status/{job}").json()["status"] == "completed":
            return str(job)
        time.sleep(0.1)
    raise AssertionError("the job does not end")


def first_notification(person: Person) -> str:
    """What somebody was told first; it comes a moment after what it tells of."""
    for _ in range(600):
        if told := person.http.get("/workbench/v1/notifications").json()["notifications"]:
            return str(told[-1]["notification_id"])
        time.sleep(0.1)
    raise AssertionError("nothing was told")


@pytest.fixture(scope="module")
def alices(workbench_server: WorkbenchServer, people: People, alice: Person) -> dict[str, str]:
    """One of everything that Alice has, by the name that paths have for its id."""
    clients = Caller(alice.http)
    client = clients.create()
    future = clients.step(client).json()["future_id"]
    artifact = clients.post(client, "save_state").json()["artifact_id"]
    texts = {"name": "letters", "texts": ["dear diary"] * 50}
    made = {
        path: alice.http.post(f"/workbench/v1/{path}", json=body).json()
        for path, body in (
            ("datasets", texts),
            ("uploads", {"name": "rows", "file_name": "rows.csv", "size": 100}),
            ("api_keys", {"name": "job"}),
            ("invitations", {"role": "viewer"}),
            ("webhooks", {"url": "https://hooks.example/", "events": ["training.completed"]}),
            ("oauth_clients", {"name": "Plotter", "redirect_uris": ["https://app.example.com/"]}),
        )
    }
    hook = made["webhooks"]["webhook_id"]
    token = alice.http.post("/workbench/v1/enrollment-tokens", json={}).json()
    device = Machine.enroll(alice)
    model = put_model(workbench_server, principal_of(workbench_server, alice))
    service = alice.http.post("/api/v1/inference/services", json={"name": "letters", "model_id": model})
    service_id = service.json()["data"]["id"]
    alice.http.post(f"/api/v1/inference/services/{service_id}/start")
    started = alice.http.post("/api/v1/fl/rounds", json={"model_config": {"architecture": "logistic"}}).json()
    return {
        "device_id": device.id,
        "round_id": started["id"],
        "campaign_id": started["campaign_id"],
        "enrollment_token_id": token["enrollment_token_id"],
        "notification_id": first_notification(alice),
        "job_id": finished_job(alice),
        "webhook_id": hook,
        "delivery_id": alice.http.post(f"/workbench/v1/webhooks/{hook}/ping").json()["delivery_id"],
        "model_id": model,
        "model_name": model,
        "model_version": "1",
        "service_id": service_id,
        "client_id": client,
        "future_id": future,
        "artifact_id": artifact,
        "dataset_id": made["datasets"]["dataset_id"],
        "alias": "of-alice",
        "upload_id": made["uploads"]["upload_id"],
        "key_id": made["api_keys"]["key_id"],
        "invitation_id": made["invitations"]["invitation_id"],
        "session_id": people.sign_in(alice.name).signed_in["session_id"],
        "oauth_client_id": made["oauth_clients"]["client_id"],
        "org_id": alice.organization_id,
        "user_id": alice.user_id,
    }


def filled(template: Any, ids: dict[str, str]) -> Any:
    """A path or a body with ids in their places."""
    text = json.dumps(template)
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return json.loads(text)


def ask_for(http: httpx.Client, door: str, ids: dict[str, str]) -> httpx.Response:
    method, path = door.split(" ")
    return http.request(method, filled(path, ids), json=filled(BODIES.get(door), ids))


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
def test_no_route_shows_anything_of_another_organisation(
    alices: dict[str, str], bob: Person, route: ContractRoute
) -> None:
    """Bob may do everything, in his own organisation."""
    door = name_of(route)
    answer = ask_for(bob.http, door, alices)
    assert refusal(answer, route.contract.name).status == 404, answer.text
    nothing = ask_for(bob.http, door, {name: f"none-{number}" for number, name in enumerate(alices)})
    assert nothing.json().keys() == answer.json().keys()
    assert nothing.status_code == 404  # what is another's and what is not there are told alike


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
def test_no_route_shows_one_member_what_another_has(
    alices: dict[str, str], carol: Person, route: ContractRoute
) -> None:
    """Carol is a member of Alice's organisation, and no administrator."""
    door = name_of(route)
    answer = ask_for(carol.http, door, alices)
    is_forbidden = door in IN_SIGHT_ONLY or NEEDED[door] not in ROLES["member"]
    expected = 200 if door in AMONG_MEMBERS else 403 if is_forbidden else 404
    assert answer.status_code == expected, answer.text


@pytest.mark.parametrize(("method", "path", "body"), NAMED_ELSEWHERE)
@pytest.mark.parametrize("who", ["bob", "carol"])
def test_nothing_of_others_is_reached_by_naming_it_elsewhere(
    request: pytest.FixtureRequest, alices: dict[str, str], who: str, method: str, path: str, body: Any
) -> None:
    person: Person = request.getfixturevalue(who)
    answer = person.http.request(method, filled(path, alices), json=filled(body, alices))
    assert answer.status_code == 404, answer.text


@pytest.fixture(scope="module")
def newcomer(people: People) -> Person:
    """Somebody who has asked for nothing by its id: what they asked for is in their own audit log."""
    return people.register("newcomer")


@pytest.mark.parametrize("route", [route for route in CLOSED if route not in WITH_IDS], ids=name_of)
def test_no_list_holds_what_others_have(
    alices: dict[str, str], newcomer: Person, route: ContractRoute
) -> None:
    if route.methods != {"GET"}:
        return
    answer = newcomer.http.get(route.path)
    mine = {name: value for name, value in alices.items() if name != "model_version"}  # that is but a number
    assert not [name for name, value in mine.items() if value in answer.text]


def test_alice_still_has_it_all(alices: dict[str, str], alice: Person) -> None:
    for door in (name_of(route) for route in WITH_IDS if route.methods == {"GET"}):
        if not door.endswith("/events"):
            assert ask_for(alice.http, door, alices).status_code == 200, door
    assert alice.http.get(f"/api/v1/users/{alice.user_id}").json()["role"] == "owner"


# ----------------------------------------------------------------------------- keys
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


def test_a_key_makes_no_other_that_would_outlive_it(alice: Person, stranger: httpx.Client) -> None:
    brief = {"name": "brief", "scopes": ["read", "keys"], "expires_in_days": 1}
    issued = alice.http.post("/workbench/v1/api_keys", json=brief).json()
    headers = {"X-API-Key": issued["key"]}
    answer = stranger.post("/workbench/v1/api_keys", json={"name": "forever"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
    assert stranger.get("/workbench/v1/api_keys", headers=headers).status_code == 200
    path = f"/workbench/v1/api_keys/{issued['key_id']}"
    assert stranger.delete(path, headers=headers).status_code == 200


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
