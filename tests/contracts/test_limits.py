"""Exactly as many requests pass as the documents say: real servers, callers side by side, a real Redis."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.contracts.envelopes import refusal
from tests.ports import free_port
from tests.workbench_server import WorkbenchServer

RESOURCE = Path(__file__).parent / "resources" / "limited.py"
KEY = f"tgw-{secrets.token_urlsafe(32)}"
CALLERS = 16


class LimitedServer:
    """A running workbench with limits, on a port of its own."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.port = free_port()
        self.log = home / "log"
        self.address = f"http://127.0.0.1:{self.port}"
        environ = {
            "TG_HOME": str(home),
            "DATABASE_URL": f"sqlite:///{home / 'tgsp.db'}",
            "TG_API_KEY": KEY,
            "TG_RATE_LIMITS": "on",
            **variables,
        }
        command = [sys.executable, str(RESOURCE), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environ}, stdout=log, stderr=log, cwd=home
            )
        answers(f"{self.address}/ready")

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One request of its own connection."""
        return httpx.get(f"{self.address}{path}", headers=headers, timeout=30)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


def answers(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        assert time.monotonic() < deadline, f"{url} never answered"
        time.sleep(0.05)


def side_by_side(ask: Callable[[int], httpx.Response], times: int) -> Counter[int]:
    """How often each status was answered to callers who ask at once."""
    with ThreadPoolExecutor(CALLERS) as callers:
        return Counter(answer.status_code for answer in callers.map(ask, range(times)))


@pytest.fixture
def serve() -> Iterator[Callable[..., LimitedServer]]:
    """Start servers, each in a home with a short path; all end with the test."""
    with contextlib.ExitStack() as stack:

        def start(**variables: str) -> LimitedServer:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tgw-")))
            server = LimitedServer(home, **variables)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="module")
def server() -> Iterator[LimitedServer]:
    """One that all tests share which count somebody else or something else."""
    with tempfile.TemporaryDirectory(prefix="tgw-") as home:
        server = LimitedServer(Path(home))
        yield server
        server.stop()


class Redis:
    """A real Redis on a port of its own; it keeps nothing on disk."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.home = home
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: `make test` brings it"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.home)]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        """End it without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A running Redis."""
    redis = Redis(tmp_path)
    yield redis
    redis.kill()


@pytest.mark.parametrize(("path", "limit"), [("/api/v1/limited/open", 60), ("/limited/open", 100)])
def test_exactly_as_many_strangers_pass_as_documented(server: LimitedServer, path: str, limit: int) -> None:
    with httpx.Client(base_url=server.address, timeout=30) as http:
        found = side_by_side(lambda _: http.get(path), limit + 40)
    assert found == {200: limit, 429: 40}


def test_a_refusal_says_when_to_come_back_in_each_documents_form(
    serve: Callable[..., LimitedServer],
) -> None:
    server = serve()
    for path, contract, limit in (
        ("/api/v1/limited/open", "qflare", 60),
        ("/limited/open", "deep_learning", 100),
    ):
        first = server.get(path)
        assert first.headers["x-ratelimit-limit"] == str(limit)
        assert first.headers["x-ratelimit-remaining"] == str(limit - 1)
        for _ in range(limit - 1):
            last = server.get(path)
        assert (last.status_code, last.headers["x-ratelimit-remaining"]) == (200, "0")
        refused = server.get(path)
        assert refusal(refused, contract).code.lower() == "rate_limit_exceeded"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        reset = refused.headers["x-ratelimit-reset"]
        if contract == "qflare":
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reset)
        else:
            assert 3500 < int(reset) - time.time() <= 3601
            assert refused.json()["retry_after"] == int(refused.headers["retry-after"])


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/api/v1/limited/closed", 5000), ("/limited/closed", 1000), ("/api/v1/devices/limited/closed", 100)],
)
def test_an_api_key_has_a_window_of_its_own(server: LimitedServer, path: str, limit: int) -> None:
    first, second = (server.get(path, **{"X-API-Key": KEY}) for _ in range(2))
    assert (first.status_code, first.headers["x-ratelimit-limit"]) == (200, str(limit))
    left = [int(answer.headers["x-ratelimit-remaining"]) for answer in (first, second)]
    assert left == [limit - 1, limit - 2]


def test_the_credential_that_was_used_decides_which_window(serve: Callable[..., LimitedServer]) -> None:
    server = serve()
    body = {"username": "ann", "email": "ann@example.org", "password": "correct-horse"}
    assert httpx.post(f"{server.address}/auth/register", json=body).status_code == 201
    sign_in = {"username": "ann", "password": "correct-horse"}
    token = httpx.post(f"{server.address}/auth/login", json=sign_in).json()["access_token"]
    session = {"Authorization": f"Bearer {token}"}
    for beside in ({}, {"X-API-Key": ""}):
        answer = server.get("/api/v1/limited/closed", **session, **beside)
        assert (answer.status_code, answer.headers["x-ratelimit-limit"]) == (200, "1000")


def test_an_application_that_shows_its_secret_is_counted_by_its_name(
    serve: Callable[..., LimitedServer],
) -> None:
    server = serve()
    wish = {"name": "App", "redirect_uris": ["https://app.example.com/"], "scope": "read"}
    key = {"X-API-Key": KEY}
    app = httpx.post(f"{server.address}/workbench/v1/oauth_clients", json=wish, headers=key).json()
    named = {"client_id": app["client_id"], "client_secret": app["client_secret"]}

    def ask(**more: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": "none", **named, **more}
        return httpx.post(f"{server.address}/api/v1/auth/token", data=form)

    answers = [ask() for _ in range(61)]
    assert {answer.status_code for answer in answers} == {400}
    assert answers[-1].headers["x-ratelimit-remaining"] == str(5000 - 61)
    guesses = [ask(client_secret="tgo_guess") for _ in range(61)]
    assert [guess.status_code for guess in guesses] == [401] * 60 + [429]
    assert ask().status_code == 400


@pytest.mark.parametrize(
    ("trusted", "forwarded", "remaining"),
    [
        ("", None, [None, None]),
        ("", "192.0.2.7", [None, None]),
        ("unix", None, [None, None]),
        ("unix", "192.0.2.7", ["59", "58"]),
        ("10.0.0.0/8, unix", "192.0.2.7, 10.0.0.1", ["59", "58"]),
    ],
)
def test_on_a_unix_socket_only_a_trusted_proxy_says_who_comes(
    trusted: str, forwarded: str | None, remaining: list[str | None]
) -> None:
    server = WorkbenchServer(TG_RATE_LIMITS="on", TG_TRUSTED_PROXIES=trusted)
    try:
        with server.client() as http:
            del http.headers["Authorization"]
            headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
            answers = [http.get("/api/v1/organizations", headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert [answer.headers.get("x-ratelimit-remaining") for answer in answers] == remaining
    finally:
        server.stop()


def test_whoever_guesses_keys_is_counted_as_a_stranger(serve: Callable[..., LimitedServer]) -> None:
    server = serve()
    with httpx.Client(base_url=server.address, timeout=30) as http:
        guess = lambda _: http.get(  # noqa: E731
            "/api/v1/limited/closed", headers={"X-API-Key": f"tgw-{secrets.token_urlsafe(32)}"}
        )
        assert side_by_side(guess, 70) == {401: 60, 429: 10}
    assert server.get("/api/v1/limited/closed", **{"X-API-Key": KEY}).status_code == 200


def test_probes_and_pages_and_other_documents_are_not_counted(server: LimitedServer) -> None:
    with httpx.Client(base_url=server.address, headers={"X-API-Key": KEY}, timeout=30) as http:
        for path in ("/api/v1/health", "/health", "/docs", "/openapi.json", "/", "/api/v1/training_clients"):
            for _ in range(3):
                answer = http.get(path)
                assert answer.status_code == 200
                assert "x-ratelimit-limit" not in answer.headers
        assert side_by_side(lambda _: http.get("/api/v1/health"), 120) == {200: 120}


def test_nobody_gets_a_new_window_by_claiming_to_be_somebody_else(
    serve: Callable[..., LimitedServer],
) -> None:
    believing, doubting = serve(TG_TRUSTED_PROXIES="127.0.0.0/8"), serve()
    for server, passed in ((believing, 70), (doubting, 60)):
        found = Counter(
            server.get("/api/v1/limited/open", **{"X-Forwarded-For": f"192.0.2.{number}"}).status_code
            for number in range(70)
        )
        assert found[200] == passed


def test_relaxed_limits_let_ten_times_as_much_through(serve: Callable[..., LimitedServer]) -> None:
    answer = serve(TG_RATE_LIMITS="relaxed").get("/api/v1/limited/open")
    assert answer.headers["x-ratelimit-limit"] == "600"


@pytest.mark.parametrize(("environment", "counted"), [("development", False), ("production", True)])
def test_limits_are_off_in_development_and_on_in_production(
    serve: Callable[..., LimitedServer], environment: str, counted: bool
) -> None:
    answer = serve(TG_RATE_LIMITS="", TG_ENVIRONMENT=environment).get("/api/v1/limited/open")
    assert ("x-ratelimit-limit" in answer.headers) == counted


def test_processes_count_together_in_redis(serve: Callable[..., LimitedServer], redis: Redis) -> None:
    servers = [serve(REDIS_URL=redis.url) for _ in range(2)]
    with httpx.Client(timeout=30) as http:
        found = side_by_side(
            lambda number: http.get(f"{servers[number % 2].address}/api/v1/limited/open"), 100
        )
    assert found == {200: 60, 429: 40}
    assert servers[0].get("/api/v1/health").json()["components"]["redis"] == "healthy"


def test_without_its_redis_a_workbench_counts_alone_and_says_so_once(
    serve: Callable[..., LimitedServer], redis: Redis
) -> None:
    server = serve(REDIS_URL=redis.url)
    assert server.get("/api/v1/limited/open").headers["x-ratelimit-remaining"] == "59"
    redis.kill()
    with httpx.Client(base_url=server.address, timeout=30) as http:
        assert side_by_side(lambda _: http.get("/api/v1/limited/open"), 80) == {200: 60, 429: 20}
    health = server.get("/api/v1/health").json()
    assert (health["status"], health["components"]["redis"]) == ("healthy", "unhealthy")
    assert server.log.read_text().count("rate limits are counted by this process") == 1
    redis.start()
    deadline = time.monotonic() + 30
    while server.get("/api/v1/limited/open").status_code != 200:
        assert time.monotonic() < deadline, "Redis is back and nobody asks it"
        time.sleep(0.2)
    assert server.log.read_text().count("rate limits are counted in Redis again") == 1
