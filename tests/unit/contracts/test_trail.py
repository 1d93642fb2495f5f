"""What a path is about, as the audit log says it, and how often it says that somebody was turned away."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from starlette.requests import Request

from tg_workbench.contracts.trail import Actor, Subject, Trail
from tg_workbench.crypto import tokens
from tg_workbench.errors import InvalidRequest, PermissionDenied, RateLimited, Unauthenticated
from tg_workbench.security import AuditEntries, AuditLog, AuditQuery
from tg_workbench.security.audit.refusals import ONE_BY_ONE
from tg_workbench.storage import Database

ID, ORGANIZATION = "1cc184d0-8a18-45b4-a91a-f1dfde44cb77", f"org_{secrets.token_hex(8)}"


@pytest.mark.parametrize(
    ("path", "values", "told"),
    [
        ("/datasets", {}, (None, None)),
        (
            "/api/v1/training_clients/{client_id}/stop",
            {"client_id": f"tc-{ID}"},
            ("training_client", f"tc-{ID}"),
        ),
        ("/workbench/v1/api_keys/{key_id}", {"key_id": f"key-{ID}"}, ("api_key", f"key-{ID}")),
        ("/api/v1/organizations/{org_id}", {"org_id": ORGANIZATION}, ("organization", ORGANIZATION)),
        ("/training/stop/{job_id}", {"job_id": ID}, ("job", ID)),
        ("/api/training/jobs/{id}/cancel", {"id": ID}, ("job", ID)),
        ("/a/{org_id}/users/{user_id}", {"org_id": ORGANIZATION, "user_id": ID}, ("user", ID)),
        ("/datasets/{dataset_id}", {"dataset_id": "a row of data"}, ("dataset", None)),
        ("/invitations/{token}", {"token": "secret"}, (None, None)),
    ],
)
def test_a_path_is_about_its_last_id(path: str, values: dict[str, str], told: tuple[str, str]) -> None:
    subject = Subject.of("a.b", path)
    assert (subject.kind, subject.id_in(values)) == told


SECRETS = {
    "an API key": tokens.new_api_key(),
    "its digest": tokens.digest("tgw-x"),
    "a refresh token": f"tgr_{secrets.token_urlsafe(32)}",
    "an invitation": f"tgi_{secrets.token_urlsafe(32)}",
    "an application's secret": f"tgo_{secrets.token_urlsafe(32)}",
    "a webhook's secret": f"whsec_{secrets.token_hex(16)}",
    "an authorization code": secrets.token_urlsafe(32),
    "a signed token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "an address": "jane.doe@hospital.org",
    "a sentence": "patient-John-Smith-HIV-positive-born-1971-04-02",
    "a key in the form of an id": f"tgw-{ID}",
    "something after an id": f"key-{ID}-john-smith",
    "a number": "19710402",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_what_is_no_id_of_ours_is_not_repeated(tmp_path: Path, secret: str) -> None:
    request = Request({"type": "http", "path_params": {"key_id": secret}, "client": None, "headers": []})
    log = AuditLog(Database(f"sqlite:///{tmp_path / 'test.db'}"), tmp_path)
    trail = Trail(log, Subject("a.b", "api_key", "key_id"), request, secret)
    assert (trail.object_id, trail.request_id) == (None, None)
    assert secret not in str(trail.deed("done"))


@pytest.mark.parametrize("given", [f"req_{ID}", f"req-{ID}", ID, ID.upper(), f"req-{ID.replace('-', '')}"])
def test_a_request_id_that_can_be_nothing_else_is_recorded(tmp_path: Path, given: str) -> None:
    request = Request({"type": "http", "path_params": {}, "client": None, "headers": []})
    log = AuditLog(Database(f"sqlite:///{tmp_path / 'test.db'}"), tmp_path)
    assert Trail(log, Subject("a.b", None, None), request, given).request_id == given


@pytest.mark.parametrize(
    ("error", "actor", "recorded"),
    [
        (PermissionDenied(), "alice", ONE_BY_ONE),
        (RateLimited(limit=1, window_seconds=60, retry_after=1), "alice", ONE_BY_ONE),
        (Unauthenticated(), None, ONE_BY_ONE),
        (InvalidRequest(), None, ONE_BY_ONE),
        (InvalidRequest(), "alice", ONE_BY_ONE),
    ],
)
def test_who_is_turned_away_again_and_again_does_not_fill_the_log(
    tmp_path: Path, error: Exception, actor: str | None, recorded: int
) -> None:
    log = AuditLog(Database(f"sqlite:///{tmp_path / 'test.db'}"), tmp_path)
    log.database.migrate()
    request = Request({"type": "http", "path_params": {}, "client": ("192.0.2.1", 1), "headers": []})
    for _ in range(ONE_BY_ONE + 5):
        trail = Trail(log, Subject("a.b", None, None), request, "req-1")
        trail.actor = None if actor is None else Actor("local", actor, "user")
        with pytest.raises(type(error)), trail:
            raise error
    with log.database.read() as session:
        page, total = AuditEntries(session).list_page("local", AuditQuery())
    assert (total, page[0].address, page[0].actor_id) == (recorded, "192.0.2.1", actor)
