"""What a path is about, as the audit log says it, and how often it says that somebody was turned away."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from tg_workbench.contracts.trail import Actor, Subject, Trail
from tg_workbench.errors import InvalidRequest, PermissionDenied, RateLimited, Unauthenticated
from tg_workbench.security import AuditEntries, AuditLog, AuditQuery
from tg_workbench.security.refusals import ONE_BY_ONE
from tg_workbench.storage import Database


@pytest.mark.parametrize(
    ("path", "values", "told"),
    [
        ("/datasets", {}, (None, None)),
        ("/api/v1/training_clients/{client_id}/stop", {"client_id": "tc-1"}, ("training_client", "tc-1")),
        ("/workbench/v1/api_keys/{key_id}", {"key_id": "key-1"}, ("api_key", "key-1")),
        ("/api/v1/organizations/{org_id}", {"org_id": "org-1"}, ("organization", "org-1")),
        ("/training/stop/{job_id}", {"job_id": "7"}, ("job", "7")),
        ("/api/training/jobs/{id}/cancel", {"id": "7"}, ("job", "7")),
        ("/a/{org_id}/users/{user_id}", {"org_id": "o", "user_id": "u"}, ("user", "u")),
        ("/datasets/{dataset_id}", {"dataset_id": "a row of data"}, ("dataset", None)),
        ("/invitations/{token}", {"token": "secret"}, (None, None)),
    ],
)
def test_a_path_is_about_its_last_id(path: str, values: dict[str, str], told: tuple[str, str]) -> None:
    subject = Subject.of("a.b", path)
    assert (subject.kind, subject.id_in(values)) == told


@pytest.mark.parametrize(
    ("error", "actor", "recorded"),
    [
        (PermissionDenied(), "alice", ONE_BY_ONE),
        (RateLimited(limit=1, window_seconds=60, retry_after=1), "alice", ONE_BY_ONE),
        (Unauthenticated(), None, ONE_BY_ONE),
        (InvalidRequest(), None, ONE_BY_ONE),
        (InvalidRequest(), "alice", ONE_BY_ONE + 5),
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
