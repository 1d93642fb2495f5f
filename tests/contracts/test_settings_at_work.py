"""What the documented environment variables do: production, headers, CORS, and doors left open on purpose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from starlette.testclient import TestClient

from tests.contracts import document
from tests.contracts.envelopes import refusal
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import create_app
from tg_workbench.contracts.table import PREFIXES, contract_name_at
from tg_workbench.errors import InvalidSetting
from tg_workbench.observability.allowance import MOST_LINES
from tg_workbench.settings import Settings

ORIGIN = "https://app.example.com"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-api-key",
}


def with_settings(home: Path, **variables: str) -> TestClient:
    """An application under other variables, in this process."""
    names = {"TG_HOME": str(home), "DATABASE_URL": f"sqlite:///{home / 'test.db'}", **variables}
    app = create_app(Settings.from_environment(names))
    app.state.premises.database.migrate()
    return TestClient(
        app, base_url="http://localhost", client=("127.0.0.1", 4711), raise_server_exceptions=False
    )


@pytest.fixture(scope="module")
def production() -> Iterator[httpx.Client]:
    """A running workbench as the document starts it in production."""
    server = WorkbenchServer(
        TG_ENVIRONMENT="production",
        TG_ALLOWED_ORIGINS=ORIGIN,
        TG_ALLOW_CREDENTIALS="true",
        TG_MAX_BODY_BYTES="2048",
    )
    with server.client() as http:
        yield http
    server.stop()


@pytest.mark.parametrize(
    "path", ["/health", "/docs", "/nowhere", "/api/v1/training_clients", "/openapi.json"]
)
def test_production_sends_every_header_on_every_answer(production: httpx.Client, path: str) -> None:
    answer = production.get(path)
    for name, value in document.headers().items():
        assert answer.headers.get_list(name) == [value]


def test_headers_are_on_errors_and_preflights_too(production: httpx.Client) -> None:
    answers = [
        production.options("/api/v1/training_clients", headers=PREFLIGHT),
        production.options(
            "/api/v1/training_clients", headers=PREFLIGHT | {"Origin": "https://evil.example"}
        ),
        production.post("/api/v1/training_clients", content=bytes(4096)),
        production.post("/api/v1/training_clients", content=b"{"),
        production.delete("/health"),
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 413, 422, 405]
    for answer in answers:
        assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("prefix", [prefix.rstrip("/") for prefix in PREFIXES])
def test_a_body_that_is_too_large_is_413_in_the_words_of_its_contract(
    production: httpx.Client, prefix: str
) -> None:
    path = f"{prefix}/no/where"
    assert refusal(production.post(path, content=bytes(4096)), contract_name_at(path)).status == 413


def test_production_says_so(production: httpx.Client) -> None:
    assert production.get("/version").json()["environment"] == "production"
    assert production.get("/health").json()["environment"] == "production"


def test_only_an_allowed_origin_may_call_from_a_browser(production: httpx.Client) -> None:
    allowed = production.options("/api/v1/training_clients", headers=PREFLIGHT)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert allowed.headers["access-control-allow-credentials"] == "true"
    stranger = production.get("/health", headers={"Origin": "http://localhost:3000"})
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://localhost:5173"])
def test_development_lets_the_documented_origins_call(tmp_path: Path, origin: str) -> None:
    answer = with_settings(tmp_path).get("/live", headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers


def test_an_answer_to_a_mistake_of_ours_tells_nothing_and_has_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = with_settings(tmp_path, TG_API_KEY="k" * 20)
    client.app.state.premises.database.engine = None  # type: ignore[attr-defined]
    answer = client.get(
        "/api/v1/training_clients", headers={"X-API-Key": "k" * 20, "Origin": "http://localhost:3000"}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["details"]) == (500, "INTERNAL_ERROR", {})
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "engine" not in answer.text
    assert "NoneType" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_statistics_that_cannot_be_told_are_told_in_the_documents_sentence(tmp_path: Path) -> None:
    client = with_settings(tmp_path, TG_API_KEY="k" * 20)
    client.app.state.premises.database.engine = None  # type: ignore[attr-defined]
    answers = {
        path: client.get(f"/api/training/{path}", headers={"X-API-Key": "k" * 20})
        for path in ("stats", "jobs")
    }
    assert [answer.status_code for answer in answers.values()] == [500, 500]
    assert answers["stats"].json() == {"error": "Failed to fetch statistics", "code": "INTERNAL_SERVER_ERROR"}
    assert "on our side" in answers["jobs"].json()["error"]


def test_security_headers_can_be_switched_off(tmp_path: Path) -> None:
    client = with_settings(tmp_path, TG_ENABLE_SECURITY_HEADERS="false", TG_ENVIRONMENT="production")
    sent = {name.lower() for name in client.get("/live").headers}
    assert not sent & {name.lower() for name in document.headers()}


@pytest.mark.parametrize("written", ["", "req_"])
def test_a_callers_request_id_is_kept_when_it_is_a_uuid(tmp_path: Path, written: str) -> None:
    given = f"{written}550e8400-e29b-41d4-a716-446655440000"
    answer = with_settings(tmp_path).get("/live", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["<script>", "trace-12345678", "sk_live_51HabcdefSECRET", "jane.doe.1974"])
def test_anything_else_is_no_request_id(tmp_path: Path, given: str) -> None:
    answer = with_settings(tmp_path).get("/live", headers={"X-Request-ID": given})
    assert re.fullmatch(r"req_[0-9a-f-]{36}", answer.headers["x-request-id"])


def test_strangers_do_not_push_everything_else_out_of_the_log(tmp_path: Path) -> None:
    names = {"TG_API_KEY": "k" * 20, "TG_ENVIRONMENT": "production"}
    client = with_settings(tmp_path, **names)
    with structlog.testing.capture_logs() as lines:
        for _ in range(MOST_LINES + 80):
            client.get("/nowhere")
        client.get("/api/v1/training_clients", headers={"X-API-Key": "k" * 20})
    asked = [line["status"] for line in lines if line["event"] == "request"]
    assert asked == [404] * MOST_LINES + [200]


@pytest.mark.parametrize(
    "variables",
    [
        {"TG_AUTH_DISABLED": "true", "TG_ENVIRONMENT": "production"},
        {"TG_ALLOWED_ORIGINS": "*", "TG_ALLOW_CREDENTIALS": "true"},
        {"TG_ENVIRONMENT": "prod"},
        {"TG_ALLOW_HUB": "true"},
        {"TG_AUTH_DISABLED": "maybe"},
        {"TG_WEBHOOK_ALLOW_LOOPBACK": "true", "TG_ENVIRONMENT": "production"},
        {"PORT": "eighty"},
    ],
    ids=str,
)
def test_unsafe_or_unknown_settings_are_refused_at_start(tmp_path: Path, variables: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting):
        with_settings(tmp_path, **variables)


def test_without_authentication_only_this_machine_gets_in(tmp_path: Path) -> None:
    client = with_settings(tmp_path, TG_AUTH_DISABLED="true")
    assert client.get("http://127.0.0.1/api/v1/training_clients").status_code == 200
    rebound = client.get("http://evil.example/api/v1/training_clients")
    assert rebound.status_code == 401
    away = TestClient(client.app, base_url="http://127.0.0.1", client=("192.0.2.7", 4711))
    assert away.get("/api/v1/training_clients").status_code == 401
    wrong = client.get("http://127.0.0.1/api/v1/training_clients", headers={"X-API-Key": "wrong"})
    assert wrong.status_code == 401


def test_without_authentication_a_proxy_on_this_machine_opens_the_door_to_nobody_else(
    tmp_path: Path,
) -> None:
    client = with_settings(tmp_path, TG_AUTH_DISABLED="true")
    for passed_on_for, status in (("127.0.0.1", 200), ("192.0.2.7", 401), ("127.0.0.1, 192.0.2.7", 401)):
        answer = client.get("/api/v1/training_clients", headers={"X-Forwarded-For": passed_on_for})
        assert answer.status_code == status


def test_an_open_door_is_closed_to_pages_of_other_sites(tmp_path: Path) -> None:
    client = with_settings(tmp_path, TG_AUTH_DISABLED="true")
    path = "/api/v1/training_clients"
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"Origin": "http://localhost"}).status_code == 200
    assert client.get(path, headers={"Origin": "http://localhost:3000"}).status_code == 200
    for origin in ("https://evil.example", "null", "http://localhost:9999"):
        assert client.get(path, headers={"Origin": origin}).status_code == 401


def test_a_key_from_a_file_may_end_with_a_line(tmp_path: Path) -> None:
    client = with_settings(tmp_path, TG_API_KEY="k" * 20 + "\n")
    assert client.get("/api/v1/training_clients", headers={"X-API-Key": "k" * 20}).status_code == 200


@pytest.mark.parametrize(
    "url", ["garbage", "postgresql://me:secret@host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///"]
)
def test_a_database_that_is_not_served_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidSetting, match="sqlite:/// and the path of a file") as refused:
        Settings.from_environment({"TG_HOME": str(tmp_path), "DATABASE_URL": url})
    assert "secret" not in str(refused.value)
