"""The whole way: Jupyter, the extension, and the API that it is there for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.server_extension.jupyter import Jupyter, running_jupyter, wait_until

CLIENTS = "/api/v1/training_clients"
MLP = {"model_ref": "mlp", "architecture": {"input_shape": [4], "output_size": 2}}
SCRIPT = "from tg_workbench import Workbench; print(len(Workbench().api_keys.list()))"


@pytest.fixture(scope="module")
def workbench() -> Iterator[Jupyter]:
    """Jupyter as a user starts it."""
    with running_jupyter(command=[]) as jupyter:
        yield jupyter


@pytest.fixture
def client(workbench: Jupyter) -> Iterator[httpx.Client]:
    """Somebody with Jupyter's token."""
    with workbench.client() as logged_in:
        yield logged_in


def test_it_is_healthy(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "healthy"


def test_whoever_is_logged_in_to_jupyter_needs_no_key(client: httpx.Client) -> None:
    assert client.get(CLIENTS).status_code == 200


def test_a_key_of_ones_own_says_who_one_is(workbench: Jupyter, client: httpx.Client) -> None:
    issued = client.post("/workbench/v1/api_keys", json={"name": "reader", "scopes": ["read"]}).json()
    own = {"X-API-Key": issued["key"]}
    assert client.get(CLIENTS, headers=own).status_code == 200
    assert client.post(CLIENTS, json=MLP, headers=own).status_code == 403
    assert client.get(CLIENTS, headers={"X-API-Key": "tgw-unknown"}).status_code == 401


def test_a_page_of_the_documents_loads_by_cookie(workbench: Jupyter) -> None:
    page = workbench.browser().get("/docs", headers={"Accept": "text/html"})
    assert "swagger-ui" in page.text


def test_a_kernel_needs_neither_address_nor_key(workbench: Jupyter) -> None:
    with workbench.client() as client:
        client.get("/health")
    environ = {name: workbench.backend().environ()[name] for name in ("TG_SOCKET", "TG_API_KEY")}
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, check=True
    )
    assert int(said.stdout) >= 0


def test_events_of_a_training_client_come_through(client: httpx.Client) -> None:
    created = client.post(CLIENTS, json=MLP).json()["training_client_id"]
    feed = f"/workbench/v1/training_clients/{created}/events"
    with client.stream("GET", feed, headers={"Accept": "text/event-stream"}) as answer:
        lines = answer.iter_lines()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        wait_until(lambda: next(lines).startswith("event: "))
    assert client.delete(f"{CLIENTS}/{created}").status_code == 200


def test_nothing_is_lost_when_the_api_is_killed(workbench: Jupyter, client: httpx.Client) -> None:
    created = client.post(CLIENTS, json=MLP).json()["training_client_id"]
    workbench.backend().kill()
    assert client.get(f"{CLIENTS}/{created}").json()["training_client_id"] == created


def test_the_workbench_stops_with_jupyter(workbench: Jupyter) -> None:
    family = [workbench.backend(), *workbench.backend().children(recursive=True)]
    assert workbench.terminate() == 0
    wait_until(lambda: not any(process.is_running() for process in family))
    assert not workbench.said("Traceback"), workbench.log.read_text()
    assert not workbench.said("never retrieved"), workbench.log.read_text()
