"""The server as a process: how it starts, what it costs, how it ends, what it says when it cannot work."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import httpx
import psutil
import pytest

from tests.contracts import document
from tests.ports import free_port
from tests.workbench_server import WorkbenchServer
from tg_workbench import Workbench, __main__
from tg_workbench.settings import Settings
from tg_workbench.storage import Database

READY_503 = next(example for example in document.examples() if example.status == 503)
MOST_BYTES = 136_000_000


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tgw-") as name:
        yield Path(name)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """What a workbench in `home` is started with."""
    return {**os.environ, "TG_HOME": str(home), "DATABASE_URL": f"sqlite:///{home / 'tgsp.db'}", **variables}


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    command = [sys.executable, "-m", "tg_workbench", *arguments]
    return subprocess.run(
        command, env=environment(home, **variables), capture_output=True, text=True, timeout=120, check=False
    )


@contextlib.contextmanager
def serving(
    home: Path, *arguments: str, pass_fds: tuple[int, ...] = (), **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`tg-workbench serve`, stopped afterwards."""
    command = [sys.executable, "-m", "tg_workbench", "serve", *arguments]
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment(home, **variables), stderr=log, stdout=log, pass_fds=pass_fds
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(http: httpx.Client, path: str, status: int, seconds: float = 60) -> httpx.Response:
    """The answer of a server that is starting or recovering, once it has the wanted status."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = http.get(path)
            if answer.status_code == status:
                return answer
        assert time.monotonic() < deadline, f"{path} never answered {status}"
        time.sleep(0.05)


def over(path: Path) -> httpx.Client:
    """A client over a Unix socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://workbench", timeout=30)


def test_the_api_never_imports_what_only_workers_need() -> None:
    heavy = [
        "torch",
        "numpy",
        "transformers",
        "tokenizers",
        "dp_accounting",
        "sklearn",
        "opacus",
        "scipy",
        "pandas",
    ]
    code = f"import sys, tg_workbench.main; sys.exit(', '.join(set({heavy!r}) & set(sys.modules)) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_file_where_the_api_is_started_is_taken_for_a_library() -> None:
    """A folder of notebooks has its `torch.py` sooner or later."""
    server = WorkbenchServer()
    for library in ("polars", "torch", "onnx", "dp_accounting"):
        (server.home / f"{library}.py").write_text("raise SystemExit('this is no library')")
    server.restart()
    rows = "a,b,y\n" + "".join(f"{row % 7},{row % 5},{'yes' if row % 2 else 'no'}\n" for row in range(60))
    try:
        with server.client() as http:
            form = {"name": "rows", "dataset_type": "classification"}
            made = http.post("/datasets/upload", files={"file": ("rows.csv", rows)}, data=form).json()
            asked = {"dataset_id": made["id"], "model_type": "mlp", "hyperparameters": {"epochs": 1}}
            job = http.post("/training/start", json=asked).json()["job_id"]
            path, deadline = f"/training/status/{job}", time.monotonic() + 90
            while http.get(path).json()["status"] in ("queued", "running"):
                assert time.monotonic() < deadline, server.log.read_text()
                time.sleep(0.2)
            assert http.get(path).json()["status"] == "completed", http.get(path).text
    finally:
        server.stop()


def test_the_api_fits_into_136_megabytes() -> None:
    server = WorkbenchServer()
    with server.client() as http:
        for path in ("/openapi.json", "/docs", "/api/v1/training_clients"):
            assert http.get(path).status_code == 200
    taken = psutil.Process(server.pid).memory_info().rss
    server.stop()
    assert taken < MOST_BYTES


def test_a_line_that_rests_longer_than_clients_keep_it_is_answered(workbench_server: WorkbenchServer) -> None:
    """Else a request may meet the end of its line: httpx keeps one for five seconds, as uvicorn would."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60)
        line.connect(str(workbench_server.socket))
        for seconds in (0, 7):
            time.sleep(seconds)
            line.sendall(b"GET /live HTTP/1.1\r\nHost: workbench\r\n\r\n")
            answer = HTTPResponse(line)
            answer.begin()
            assert json.loads(answer.read()) == {"alive": True}


def test_it_serves_a_port_from_the_environment(home: Path) -> None:
    port = free_port()
    with serving(home, PORT=str(port)), httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        assert answers(http, "/ready", 200).json() == {"ready": True}


def test_what_it_keeps_is_for_its_user_alone(home: Path) -> None:
    """Also where TG_HOME was there before, and is open to everybody."""
    kept, key, where = home / "kept", "tgw-a-key-for-this-test-alone", home / "s"
    kept.mkdir()
    kept.chmod(0o755)
    rows = "age,sick\n" + "".join(f"{age},{'yes' if age % 3 else 'no'}\n" for age in range(60))
    (home / "patients.csv").write_text(rows)
    before = os.umask(0o022)
    try:
        with (
            serving(kept, "--socket", str(where), TG_API_KEY=key),
            Workbench(socket=str(where), api_key=key) as workbench,
        ):
            workbench.datasets.upload(home / "patients.csv", target="sick", ranges={"age": (0, 110)})
    finally:
        os.umask(before)
    found = [path for path in kept.rglob("*") if path != kept / "log"]  # that is this test's own
    assert kept / "tgsp.db" in found
    assert rows in [path.read_text() for path in found if path.is_file() and path.stat().st_size == len(rows)]
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_uvicorn_can_serve_it_by_name(home: Path) -> None:
    path = home / "api.sock"
    command = [sys.executable, "-m", "uvicorn", "tg_workbench.main:app", "--uds", str(path)]
    process = subprocess.Popen(command, env=environment(home), stderr=subprocess.DEVNULL)
    try:
        with over(path) as http:
            answers(http, "/ready", 200)
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.operation("S0-01", "S0-02", "S0-03")
def test_it_is_not_ready_while_the_database_is_down_and_ready_when_it_is_back(home: Path) -> None:
    (home / "tgsp.db").mkdir()  # a folder where the file should be: it cannot be opened
    path = home / "api.sock"
    with serving(home, "--socket", str(path), TG_API_KEY="k" * 20), over(path) as http:
        unready = answers(http, "/ready", 503)
        assert unready.json() == READY_503.body
        assert http.get("/live").json() == {"alive": True}
        health = http.get("/health")
        assert (health.status_code, health.json()["checks"]) == (503, {"database": {"status": "unhealthy"}})
        refused = http.get("/api/v1/training_clients", headers={"X-API-Key": "k" * 20})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
        (home / "tgsp.db").rmdir()
        answers(http, "/ready", 200)


def test_it_ends_in_time_with_feeds_and_waits_open() -> None:
    server = WorkbenchServer()
    with server.client() as http:
        body = {"model_ref": "mlp", "architecture": {"input_shape": [4], "output_size": 2}}
        client_id = http.post("/api/v1/training_clients", json=body).json()["training_client_id"]
        path = f"/workbench/v1/training_clients/{client_id}"
        http.post(f"{path}/pause")
        future = http.post(f"/api/v1/training_clients/{client_id}/optim_step").json()["future_id"]
        with http.stream("GET", f"{path}/events") as feed, server.client() as other:
            lines = feed.iter_lines()
            assert next(lines) == ": open"
            with other.stream("GET", f"/api/v1/futures/{future}?wait=0.1"):
                os.kill(server.pid, signal.SIGTERM)
                began = time.monotonic()
                assert [line for line in lines if line.startswith("event: error")] == []
    server._terminate()
    assert time.monotonic() - began < 12
    server.stop()


def test_it_ends_with_its_owner(home: Path) -> None:
    ours, theirs = os.pipe()
    path = home / "api.sock"
    with serving(home, "--socket", str(path), "--death-fd", str(ours), pass_fds=(ours,)) as process:
        os.close(ours)
        with over(path) as http:
            answers(http, "/ready", 200)
        os.close(theirs)
        process.wait(20)


def test_a_key_from_the_command_line_opens_the_door(home: Path) -> None:
    made = run(home, "keys", "create", "--name", "script", "--scopes", "read")
    key = made.stdout.splitlines()[-1]
    assert (made.returncode, made.stderr) == (0, "")
    path = home / "api.sock"
    with serving(home, "--socket", str(path)), over(path) as http:
        answers(http, "/ready", 200)
        headers = {"Authorization": f"Bearer {key}"}
        assert http.get("/api/v1/training_clients", headers=headers).status_code == 200
        assert http.post("/api/v1/training_clients", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--host", "192.0.2.1"], {"TG_AUTH_DISABLED": "true"}),
        ([], {"TG_AUTH_DISABLED": "true", "TG_ENVIRONMENT": "production"}),
        ([], {"TG_ENVIRONMENT": "staging"}),
        ([], {"TG_HOME": "/proc/nope"}),
        ([], {"TG_HOME": "/dev/null"}),
        ([], {"DATABASE_URL": "sqlite:////proc/nope/x.db"}),
        ([], {"DATABASE_URL": "sqlite:///x.db?mode=ro"}),
    ],
    ids=str,
)
def test_an_unsafe_start_is_refused_with_a_sentence(
    home: Path, arguments: list[str], variables: dict[str, str]
) -> None:
    refused = run(home, "serve", *arguments, **variables)
    assert refused.returncode == 2
    assert refused.stderr.startswith("tg-workbench: ")
    assert len(refused.stderr.splitlines()) == 1
    assert any(name in refused.stderr for name in variables)


def test_a_command_names_the_setting_that_keeps_it_from_working(home: Path) -> None:
    refused = run(home, "keys", "create", "--name", "x", TG_HOME="/proc/nope")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("tg-workbench: TG_HOME is '/proc/nope'")
    assert "Traceback" not in refused.stderr


def test_the_doctor_finds_nothing_wrong_with_a_sound_home(home: Path) -> None:
    found = run(home, "doctor")
    assert found.returncode == 0, found.stdout
    for what in ("home", "sockets", "disk", "database", "torch"):
        assert f"ok  {what}: " in found.stdout


def test_the_doctor_says_what_to_do(home: Path) -> None:
    home.chmod(0o755)
    (home / "tgsp.db").mkdir()
    found = run(home, "doctor")
    assert found.returncode == 1
    assert f"chmod 700 '{home}'" in found.stdout
    assert "check DATABASE_URL" in found.stdout


def test_the_openapi_command_prints_what_the_server_serves(home: Path, api: httpx.Client) -> None:
    printed = run(home, "openapi")
    assert printed.returncode == 0
    assert httpx.Response(200, text=printed.stdout).json() == api.get("/openapi.json").json()


def test_migrating_twice_is_migrating_once(home: Path) -> None:
    for _ in range(2):
        assert run(home, "migrate").stdout == "the database is up to date\n"


def test_a_database_of_a_later_version_is_left_alone_and_said(home: Path) -> None:
    assert run(home, "migrate").returncode == 0
    with contextlib.closing(sqlite3.connect(home / "tgsp.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    said = "was made by a newer tg-workbench"
    assert said in run(home, "migrate").stderr
    assert said in run(home, "doctor").stdout
    served = run(home, "serve", "--socket", str(home / "api.sock"))
    assert served.returncode == 1
    assert said in served.stderr
    assert "startup complete" not in served.stderr
    assert "Traceback" not in served.stderr
    command = [sys.executable, "-m", "uvicorn", "tg_workbench.main:app", "--uds", str(home / "api.sock")]
    by_name = subprocess.run(
        command, env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert by_name.returncode > 0
    assert said in by_name.stderr


def test_a_database_that_is_found_too_new_late_ends_the_server_as_failed(home: Path) -> None:
    (home / "tgsp.db").mkdir()  # it does not answer yet
    path = home / "api.sock"
    with serving(home, "--socket", str(path)) as process, over(path) as http:
        answers(http, "/ready", 503)
        with contextlib.closing(sqlite3.connect(home / "new.db")) as database:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("INSERT INTO alembic_version VALUES ('9999')")
            database.commit()
        (home / "tgsp.db").rmdir()
        (home / "new.db").rename(home / "tgsp.db")
        assert process.wait(20) == 1


def test_a_migration_apart_is_waited_for_only_so_long(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment({"TG_HOME": str(home), "DATABASE_URL": f"sqlite:///{home}/x.db"})
    monkeypatch.setattr(__main__, "MIGRATION_SECONDS", 0.2)
    monkeypatch.setattr(Database, "migrate", lambda _: time.sleep(60))
    began = time.monotonic()
    __main__._migrate_apart(settings)
    assert time.monotonic() - began < 10

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    __main__._migrate_apart(settings)
