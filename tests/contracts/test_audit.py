"""What requests leave in the audit log: every change, every refusal, and nothing of what they carried."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.contracts.conftest import ARCHITECTURE, ROWS, Caller
from tests.contracts.people import PASSWORD, People, Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import contract_routes
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.security.audit.refusals import ONE_BY_ONE

RECORDED = [route for route in contract_routes() if route.is_audited]
READ = {"download_dataset", "export_artifact", "export_model", "read_audit_log"}
QUESTIONS = {
    *("introspect", "plan_run", "validate_dataset", "predict", "predict_by_service", "beat"),
    *("infer", "infer_version", "generate", "generate_version", "generate_stream", "generate_stream_version"),
}
DATASET = f"ds-{uuid.uuid4()}"
CLIENT = {"model_ref": "mlp", "architecture": ARCHITECTURE}


def name_of(route: ContractRoute) -> str:
    return f"{','.join(route.methods or ())} {route.path}"


def entries(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """Entries of the log, the newest first."""
    answer = api.get("/workbench/v1/audit", params={"limit": 1000, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def entry_of(api: httpx.Client, request_id: str) -> dict[str, Any]:
    """The one entry that a request has left."""
    (entry,) = [entry for entry in entries(api) if entry["request_id"] == request_id]
    return entry


@pytest.fixture
def request_id() -> str:
    """An id for a request."""
    return f"req_{uuid.uuid4()}"


@pytest.fixture(scope="module")
def audited() -> Iterator[WorkbenchServer]:
    """A workbench whose log is looked at; others make more entries than a page holds."""
    server = WorkbenchServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def api(audited: WorkbenchServer) -> Iterator[httpx.Client]:
    """The workbench over HTTP, signed in."""
    with audited.client(timeout=120) as http:
        yield http


@pytest.fixture(scope="module")
def people(audited: WorkbenchServer) -> Iterator[People]:
    """Who registers and signs in."""
    known = People(audited)
    yield known
    known.close()


@pytest.fixture(scope="module")
def caller(api: httpx.Client) -> Caller:
    """Somebody who uses it."""
    return Caller(api)


def test_only_reads_and_questions_leave_no_entry() -> None:
    silent = [route for route in contract_routes() if not route.is_audited]
    assert {route.name for route in silent if route.methods != {"GET"}} == QUESTIONS
    assert {route.name for route in RECORDED if route.methods == {"GET"}} == READ


@pytest.mark.parametrize("route", RECORDED, ids=name_of)
def test_every_request_that_may_change_something_leaves_an_entry(
    api: httpx.Client, people: People, route: ContractRoute, request_id: str
) -> None:
    owner = people.register("owner")  # a new one each time: what one person fails at is bounded
    (method,) = route.methods or {"GET"}
    some_id = str(uuid.uuid4())
    path = re.sub(r"{\w+}", some_id, route.path)
    answer = owner.http.request(method, path, headers={"X-Request-ID": request_id})
    entry = entry_of(api if route.is_public else people.sign_in(owner.name).http, request_id)
    assert entry["action"] == f"{route.contract.name}.{route.name}"
    assert entry["actor"] == (None if route.is_public else owner.user_id)
    assert (entry["outcome"] == "done") == answer.is_success
    assert entry["object_id"] == (some_id if re.search(r"{(\w+_)?id}", route.path) else None)


def test_a_change_and_its_entry_are_stored_together(api: httpx.Client, request_id: str) -> None:
    made = api.post("/api/v1/training_clients", json=CLIENT, headers={"X-Request-ID": request_id})
    entry = entry_of(api, request_id)
    assert entry["action"] == "tg_tinker.create_training_client"
    assert (entry["object_kind"], entry["outcome"]) == ("training_client", "done")
    assert entry["object_id"] == made.json()["training_client_id"]
    assert entry["address"] is None, "a Unix socket has none"


def test_every_step_over_http_is_recorded(api: httpx.Client, caller: Caller) -> None:
    client_id = caller.create()
    caller.step(client_id)
    mine = [entry["action"] for entry in entries(api) if entry["object_id"] == client_id]
    assert mine == [
        f"tg_tinker.{name}" for name in ("optim_step", "forward_backward", "create_training_client")
    ]


def test_an_entry_names_the_key_that_was_used(api: httpx.Client, audited: WorkbenchServer) -> None:
    issued = api.post("/workbench/v1/api_keys", json={"name": "robot", "scopes": ["train"]}).json()
    made = entries(api, action="workbench.issue_api_key")[0]
    assert (made["object_kind"], made["object_id"]) == ("api_key", issued["key_id"])
    with audited.client() as http:
        http.headers["Authorization"] = f"Bearer {issued['key']}"
        Caller(http).create()
    entry = entries(api, action="tg_tinker.create_training_client")[0]
    assert (entry["actor"], entry["actor_kind"]) == ("local", "api_key")
    assert entry["credential_id"] == issued["key_id"]


def test_nothing_that_a_request_carried_is_in_the_log(
    api: httpx.Client, caller: Caller, audited: WorkbenchServer
) -> None:
    marker = "patient no0815"  # no digits that a hash might have
    texts = {"name": marker, "texts": [marker], "privacy": "public"}
    assert api.post("/workbench/v1/datasets", json=texts).status_code == 201
    assert api.post("/workbench/v1/api_keys", json={"name": marker}).status_code == 201
    assert api.post(f"/api/v1/training_clients/{marker}/optim_step?x={marker}").status_code == 422
    caller.post(caller.create(), "forward_backward", {"batch": ROWS})
    log = json.dumps(entries(api))
    assert "no0815" not in log
    assert "tgw-" not in log


def test_a_secret_in_the_place_of_an_id_is_nowhere() -> None:
    server = WorkbenchServer()
    people = People(server)
    dora = people.register("dora")
    secrets = [
        dora.http.post("/workbench/v1/api_keys", json={"name": "x", "scopes": ["read"]}).json()["key"],
        dora.signed_in["refresh_token"],
        dora.http.post("/workbench/v1/invitations", json={"role": "viewer"}).json()["invitation_token"],
    ]
    for secret in secrets:
        for path in ("api_keys", "sessions", "invitations", "members", "datasets"):
            for http, status in ((dora.http, 404), (people.client(), 401)):
                answer = http.delete(f"/workbench/v1/{path}/{secret}", headers={"X-Request-ID": secret})
                assert (answer.status_code, secret in answer.text) == (status, False)
                assert answer.headers["x-request-id"].startswith("req_")
    name = "jane.doe-HIV-positive"
    assert name not in dora.http.delete(f"/workbench/v1/sessions/{name}").text
    with server.client() as operator:
        log = json.dumps([entries(operator), dora.http.get("/workbench/v1/audit").json()])
    assert not any(text in log for text in (*secrets, name))
    people.close()
    server.stop()


def test_what_was_asked_without_the_scope_is_refused_and_recorded(
    api: httpx.Client, audited: WorkbenchServer, request_id: str
) -> None:
    key = api.post("/workbench/v1/api_keys", json={"name": "reader", "scopes": ["read"]}).json()
    headers = {"Authorization": f"Bearer {key['key']}", "X-Request-ID": request_id}
    with audited.client() as http:
        assert http.delete(f"/workbench/v1/datasets/{DATASET}", headers=headers).status_code == 403
        assert http.get("/workbench/v1/audit", headers=headers).status_code == 403
    first, second = (entry for entry in entries(api) if entry["request_id"] == request_id)
    assert (first["action"], second["action"]) == ("workbench.read_audit_log", "workbench.delete_dataset")
    assert (second["outcome"], second["reason"]) == ("refused", "PermissionDenied")
    assert (second["credential_id"], second["object_id"]) == (key["key_id"], DATASET)


def test_accounts_leave_their_entries_in_the_log_of_their_organisation(
    api: httpx.Client, audited: WorkbenchServer
) -> None:
    people = People(audited)
    dora = people.register("dora")
    wrong = people.client().post("/workbench/v1/sessions", json={"login": dora.name, "password": "x" * 12})
    assert wrong.status_code == 401
    deadline = time.monotonic() + 30
    while True:
        log = dora.http.get("/api/v1/security/audit").json()
        told = [(entry["action"], entry["object_kind"], entry["actor"]) for entry in log["entries"]]
        told = [entry for entry in told if entry[0] != "qflare.read_audit_log"]
        if len(told) > 2:
            break
        assert time.monotonic() < deadline, "whose password was tried is told a second later"
        time.sleep(0.2)
    assert told == [
        ("workbench.sign_in", "user", None),
        ("workbench.sign_in", "user_session", dora.user_id),
        ("deep_learning.register", "user", dora.user_id),
    ]
    total = len(log["entries"])
    assert log["pagination"] == {"page": 1, "size": 20, "total": total, "pages": 1}
    refused = entries(api, action="workbench.sign_in")[0]
    assert (refused["outcome"], refused["actor_kind"]) == ("refused", "unknown")
    assert dora.user_id not in json.dumps(entries(api)), "another organisation's log is not in ours"
    erin = people.invite(dora, "erin")
    assert erin.http.get("/api/v1/security/audit").status_code == 403
    newest = dora.http.get("/api/v1/security/audit", params={"size": 1}).json()["entries"][0]
    assert (newest["action"], newest["outcome"]) == ("qflare.read_audit_log", "refused")
    assert (newest["actor"], newest["credential_id"]) == (erin.user_id, erin.signed_in["session_id"])
    people.close()


def of_user(person: Person, user_id: str, action: str) -> list[tuple[Any, ...]]:
    """What the log of somebody's organisation says of a user, the newest first."""
    found = [entry for entry in entries(person.http, action=action) if entry["object_id"] == user_id]
    return [(entry["actor"], entry["outcome"], entry["reason"]) for entry in found]


def test_what_the_operator_does_in_an_organisation_is_in_its_log(api: httpx.Client, people: People) -> None:
    dora = people.register("dora")
    erin = people.invite(dora, "erin")
    where = {"organization_id": dora.organization_id}
    name = f"spy-{uuid.uuid4().hex[:8]}"
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "role": "admin", **where}
    spy = api.post("/api/v1/users", json=body).json()["id"]
    assert api.put(f"/api/v1/users/{erin.user_id}/permissions", json={"role": "viewer"}).status_code == 200
    assert api.delete(f"/workbench/v1/members/{spy}").status_code == 200
    invitation = api.post("/workbench/v1/invitations", json={"role": "admin", **where}).json()
    assert api.delete(f"/workbench/v1/invitations/{invitation['invitation_id']}").status_code == 200
    assert api.put(f"/api/v1/organizations/{dora.organization_id}", json={"name": "Ours"}).status_code == 200
    told = [(entry["action"], entry["actor"], entry["reason"]) for entry in entries(dora.http)]
    assert told[:6] == [
        ("qflare.update_organization", "local", None),
        ("workbench.withdraw_invitation", "local", None),
        ("workbench.invite", "local", "role:admin"),
        ("workbench.remove_member", "local", None),
        ("qflare.update_permissions", "local", "role:viewer"),
        ("qflare.create_user", "local", "role:admin"),
    ]
    assert told[:6] == [(entry["action"], entry["actor"], entry["reason"]) for entry in entries(api)[:6]]
    assert api.delete(f"/workbench/v1/members/{erin.user_id}").status_code == 200
    assert entries(dora.http)[0]["action"] == "workbench.remove_member"


def test_a_new_organisation_has_a_log_and_so_has_every_one_that_a_person_leaves(people: People) -> None:
    dora = people.register("dora")
    made = dora.http.post("/api/v1/organizations", json={"name": "Second"}).json()["id"]
    there = people.sign_in(dora.name, organization_id=made)
    assert [entry["action"] for entry in entries(there.http)] == [
        "workbench.sign_in",
        "qflare.create_organization",
    ]


def test_what_was_given_is_told(people: People) -> None:
    dora = people.register("dora")
    erin = people.invite(dora, "erin")
    path = f"/api/v1/users/{erin.user_id}/permissions"
    for body in ({"role": "viewer"}, {"permissions": ["train", "read"]}):
        assert dora.http.put(path, json=body).status_code == 200
    assert of_user(dora, erin.user_id, "qflare.update_permissions") == [
        (dora.user_id, "done", "scopes:read/train"),
        (dora.user_id, "done", "role:viewer"),
    ]
    dora.http.post("/workbench/v1/api_keys", json={"name": "x", "scopes": ["read"]})
    assert entries(dora.http, action="workbench.issue_api_key")[0]["reason"] == "scopes:read"


SIGN_INS = [
    ("workbench.sign_in", "/workbench/v1/sessions", "login"),
    ("deep_learning.log_in", "/auth/login", "username"),
    ("aitip.log_in", "/api/v1/auth/login", "email"),
]


@pytest.mark.parametrize(("action", "path", "field"), SIGN_INS, ids=[action for action, *_ in SIGN_INS])
def test_whose_password_was_tried_is_in_the_log_of_their_organisation(
    api: httpx.Client, people: People, action: str, path: str, field: str
) -> None:
    dora = people.register("dora")
    erin = people.invite(dora, "erin")
    for _ in range(2):
        body = {field: erin.email if field == "email" else erin.name, "password": "wrong-horse"}
        assert people.client().post(path, json=body).status_code == 401
    deadline = time.monotonic() + 30
    while len(told := of_user(dora, erin.user_id, action)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert told == [(None, "refused", "WrongPassword")] * 2
    assert erin.user_id not in json.dumps(entries(api))


def test_what_somebody_fails_at_again_and_again_does_not_fill_the_log(people: People) -> None:
    dora = people.register("dora")
    erin = people.invite(dora, "erin", "viewer")
    for _ in range(ONE_BY_ONE + 10):
        assert erin.http.delete(f"/workbench/v1/sessions/ses-{uuid.uuid4()}").status_code == 404
    assert erin.http.delete(f"/workbench/v1/members/{dora.user_id}").status_code == 403
    mine = [entry["outcome"] for entry in entries(dora.http, actor=erin.user_id)]
    assert (mine[0], mine.count("failed")) == ("refused", ONE_BY_ONE)


def test_reading_is_not_recorded_but_reading_the_log_is(api: httpx.Client) -> None:
    before = len(entries(api))
    api.get("/api/v1/training_clients")
    api.get("/workbench/v1/datasets")
    after = entries(api)
    assert [entry["action"] for entry in after[: len(after) - before]] == ["workbench.read_audit_log"]


@pytest.mark.operation("S2-17")
def test_the_log_is_searched_by_actor_action_and_time(api: httpx.Client) -> None:
    assert entries(api, actor="nobody") == []
    entries(api, action="workbench.read_audit_log")
    found = entries(api, actor="local", action="workbench.read_audit_log")
    assert {entry["action"] for entry in found} == {"workbench.read_audit_log"}
    edge = found[1]["at"]
    assert all(entry["at"] >= edge for entry in entries(api, since=edge))
    assert all(entry["at"] < edge for entry in entries(api, until=edge))
    for text in ("yesterday", "0.5", "2026-02-01", "2026-13-31T00:00:00Z", "9999-12-31T23:59:59-23:59x"):
        answer = api.get("/workbench/v1/audit", params={"since": text})
        assert (answer.status_code, text in answer.text) == (422, False)
    for text in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-31T12:00"):
        assert api.get("/workbench/v1/audit", params={"since": text}).status_code == 200


@pytest.mark.operation("S2-17")
def test_a_page_says_how_many_there_are(api: httpx.Client) -> None:
    page = api.get("/workbench/v1/audit", params={"limit": 2, "offset": 1}).json()
    assert (len(page["entries"]), page["limit"], page["offset"]) == (2, 2, 1)
    assert page["total"] == page["entries"][0]["number"] + 1


# ----------------------------------------------------------------------------- the command
def run(server: WorkbenchServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {"TG_HOME": str(server.home), "DATABASE_URL": server.database_url}
    return subprocess.run(
        [sys.executable, "-m", "tg_workbench", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        timeout=60,
        cwd=server.home,
    )


def test_a_stopped_workbench_leaves_a_signed_log_that_verifies_offline(tmp_path: Path) -> None:
    server = WorkbenchServer()
    try:
        with server.client() as http:
            Caller(http).create()
            del http.headers["Authorization"]
            for _ in range(ONE_BY_ONE + 30):  # a flood
                assert http.delete("/workbench/v1/datasets/ds-1").status_code == 401
        created = run(server, "keys", "create", "--name", "mine")
        assert created.stdout.splitlines()[-1].startswith("tgw-")
        stop_in_order(server)
        verdict = run(server, "audit", "verify")
        assert (verdict.returncode, verdict.stderr) == (0, "")
        assert "newer than" not in verdict.stdout
        lines = [json.loads(line) for line in run(server, "audit", "export").stdout.splitlines()]
        told = [line["entry"] for line in lines if "entry" in line]
        assert [entry["action"] for entry in told] == [
            "tg_tinker.create_training_client",
            *["workbench.delete_dataset"] * ONE_BY_ONE,
            "command.create_key",
            "door.refused_more",
        ]
        assert told[-1]["count"] == 30
        assert (told[-2]["object_id"], told[-2]["object_kind"]) == (created.stdout.split()[0], "api_key")
        assert told[-2]["reason"].startswith("scopes:admin/")
        assert {entry["actor_kind"] for entry in told[1 : ONE_BY_ONE + 1]} == {"unknown"}
        key = tmp_path / "public.pem"
        key.write_text(run(server, "audit", "public-key").stdout)
        outside = run(server, "audit", "verify", "--public-key", str(key))
        assert outside.returncode == 0
        assert "no folder of heads" in outside.stdout
        tamper(server)
        for arguments in ((), ("--public-key", str(key))):
            broken = run(server, "audit", "verify", *arguments)
            assert broken.returncode == 1
            assert broken.stdout.startswith("BROKEN tenant local, entry 1: it was changed")
        absent = run(server, "audit", "verify", "--database", str(tmp_path / "none.db"))
        assert absent.returncode == 2
        assert not (tmp_path / "none.db").exists()
    finally:
        server.stop()


def stop_in_order(server: WorkbenchServer) -> None:
    """End the API, and leave its home."""
    process = psutil.Process(server.pid)
    process.terminate()
    process.wait(20)


def tamper(server: WorkbenchServer) -> None:
    """Say that it was somebody else."""
    with contextlib.closing(sqlite3.connect(server.home / "tgsp.db")) as connection, connection:
        connection.execute("DROP TRIGGER audit_entries_refuse_update")
        connection.execute("UPDATE audit_entries SET actor_id='mallory' WHERE number=1")


def test_a_killed_workbench_loses_no_entry(
    audited: WorkbenchServer, api: httpx.Client, request_id: str
) -> None:
    api.post("/api/v1/training_clients", json=CLIENT, headers={"X-Request-ID": request_id})
    audited.kill()
    audited.restart()
    assert entry_of(api, request_id)["outcome"] == "done"
    verdict = run(audited, "audit", "verify")
    assert verdict.returncode == 0, verdict.stdout
