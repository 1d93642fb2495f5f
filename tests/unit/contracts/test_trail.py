"""What a path is about, as the audit log says it."""

from __future__ import annotations

import pytest

from tg_workbench.contracts.trail import Subject


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
