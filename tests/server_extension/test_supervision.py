"""The API lives exactly as long as Jupyter does, whatever happens to either."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server_extension.jupyter import BACKEND, Jupyter, in_threads, running_jupyter, wait_until

TRACEBACK = "Traceback (most recent call last)"


@pytest.fixture
def own_jupyter() -> Iterator[Jupyter]:
    """A Jupyter that a test may end."""
    with running_jupyter() as jupyter:
        wait_until(lambda: jupyter.said("API is up after"))  # nobody has asked it anything
        yield jupyter


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


# ------------------------------------------------------------------------------- the API ends
def test_no_request_fails_when_the_api_is_killed(jupyter: Jupyter) -> None:
    killed = jupyter.backend()
    killed.kill()

    def ask(number: int) -> None:
        with jupyter.client() as client:
            answer = client.post("/echo", json=number)
        assert answer.json()["pid"] != killed.pid
        assert answer.json()["body"] == str(number)

    wait_until(lambda: gone(killed))
    in_threads(16, ask)


def test_no_request_on_the_socket_fails_when_the_api_is_killed(jupyter: Jupyter) -> None:
    killed = jupyter.backend()
    killed.kill()
    wait_until(lambda: gone(killed))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(jupyter.api_socket)), timeout=60) as kernel:
        assert kernel.get("http://workbench/echo").json()["pid"] != killed.pid


def test_a_killed_api_is_not_mistaken_for_one_that_hangs() -> None:
    patient = {"start_seconds": 600.0, "outage_seconds": 30.0}
    with running_jupyter(extension=patient) as jupyter:
        wait_until(lambda: jupyter.said("API is up after"))
        killed = jupyter.backend()
        killed.kill()
        with jupyter.client() as client:
            assert client.get("/echo").json()["pid"] != killed.pid


@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("POST", {"Idempotency-Key": "k1"}), ("DELETE", {"Idempotency-Key": "k2"})],
)
def test_what_may_be_repeated_is_repeated(
    jupyter: Jupyter, tmp_path: Path, method: str, headers: dict[str, str]
) -> None:
    asked = tmp_path / "asked"
    answers: list[httpx.Response] = []

    def ask() -> None:
        with jupyter.client(**headers) as client:
            answers.append(client.request(method, f"/once?{asked}", content=b"again"))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(asked.exists)
    jupyter.backend().kill()
    thread.join(60)
    assert answers[0].json()["body"] == "again"


def test_what_may_not_be_repeated_says_so(jupyter: Jupyter, tmp_path: Path) -> None:
    asked = tmp_path / "asked"

    def kill() -> None:
        wait_until(asked.exists)
        jupyter.backend().kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with jupyter.client() as client:
        answer = client.post(f"/once?{asked}", content=b"once")
    thread.join()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "INTERRUPTED"


def test_an_api_that_does_not_come_up_is_explained_and_comes_back(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    script = f"test -e {broken} && echo the disk is on fire && exit 3; exec {sys.executable} {BACKEND} $*"
    with running_jupyter(command=["sh", "-c", script, "sh"], extension={"outage_seconds": 1.0}) as jupyter:
        with jupyter.client() as client:
            answer = client.get("/echo")
            page = client.post("/echo", content=bytes(2**20), headers={"Accept": "text/html"})
        assert answer.status_code == page.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "SERVICE_UNAVAILABLE"
        assert "the disk is on fire" in error["message"]
        assert str(jupyter.home / "workbench" / "logs" / "api.log") in error["message"]
        assert "<h1>Not running</h1>" in page.text
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(jupyter.api_socket))) as kernel:
            assert kernel.get("http://workbench/echo").status_code == 503
        broken.unlink()
        with jupyter.client() as client:
            wait_until(lambda: client.get("/echo").status_code == 200)


def test_an_api_that_hangs_is_started_again() -> None:
    with running_jupyter(extension={"start_seconds": 4.0}) as jupyter:
        wait_until(lambda: jupyter.said("API is up after"))
        hung = jupyter.backend()
        hung.suspend()
        wait_until(lambda: jupyter.said("did not answer in 4 s"), 30)
        wait_until(lambda: gone(hung))
        with jupyter.client() as client:
            assert client.get("/echo").json()["pid"] != hung.pid


# ------------------------------------------------------------------------------- Jupyter ends
def test_the_api_starts_before_anyone_asks_and_sigterm_leaves_nothing(own_jupyter: Jupyter) -> None:
    api = own_jupyter.backend()
    with own_jupyter.client() as client, client.stream("GET", "/events?open") as answer:
        next(answer.iter_lines())
        own_jupyter.process.send_signal(signal.SIGTERM)
        assert own_jupyter.process.wait(15) == 0
    assert gone(api)
    assert own_jupyter.socket_folders == []
    assert not own_jupyter.said(TRACEBACK)


def test_a_shutdown_by_request_leaves_nothing(own_jupyter: Jupyter) -> None:
    api = own_jupyter.backend()
    with own_jupyter.client() as client:
        client.post(f"http://127.0.0.1:{own_jupyter.port}/api/shutdown")
    assert own_jupyter.process.wait(15) == 0
    assert gone(api)
    assert own_jupyter.socket_folders == []


def test_the_api_goes_when_jupyter_is_killed_and_the_next_one_sweeps(own_jupyter: Jupyter) -> None:
    api, left = own_jupyter.backend(), own_jupyter.socket_folders
    own_jupyter.process.kill()
    wait_until(lambda: gone(api))
    with running_jupyter(runtime=own_jupyter.runtime) as successor:
        assert len(left) == len(successor.socket_folders) == 1
        assert left != successor.socket_folders
        assert successor.seen()["pid"] != api.pid
