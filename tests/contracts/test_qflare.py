"""QFLARE's API against a running workbench."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.contracts.test_settings_at_work import with_settings


@pytest.mark.operation("S2-03")
def test_health_is_answered_as_documented(stranger: httpx.Client) -> None:
    answer = stranger.get("/api/v1/health")
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"status", "timestamp", "version", "components", "uptime"}
    assert (body["status"], body["version"]) == ("healthy", "1.0.0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])
    assert set(body["components"]) == {"database", "redis", "quantum_keys"}
    assert body["components"]["database"] == "healthy"
    assert isinstance(body["uptime"], int)


@pytest.mark.operation("S2-03")
def test_health_tells_of_a_database_that_does_not_answer(tmp_path: Path) -> None:
    client = with_settings(tmp_path / "home")
    client.app.state.premises.database.close()  # type: ignore[attr-defined]
    (tmp_path / "home" / "test.db").unlink()
    (tmp_path / "home" / "test.db").mkdir()
    answer = client.get("/api/v1/health")
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["components"]["database"]) == ("unhealthy", "unhealthy")
