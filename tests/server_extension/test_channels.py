"""The API's WebSockets through Jupyter: the real API, the real proxy, and a browser's way to sign in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.server_extension.jupyter import Jupyter, running_jupyter
from tests.server_extension.test_websocket import cookies

CLIENTS = "/api/v1/training_clients"
MLP = {"model_ref": "mlp", "architecture": {"input_shape": [4], "output_size": 2}}


@pytest.fixture(scope="module")
def workbench() -> Iterator[Jupyter]:
    """Jupyter as a user starts it."""
    with running_jupyter(command=[]) as jupyter:
        with jupyter.client() as http:
            assert http.get("/health").json()["status"] == "healthy"
        yield jupyter


@pytest.fixture
def client(workbench: Jupyter) -> Iterator[httpx.Client]:
    """Somebody with Jupyter's token."""
    with workbench.client() as logged_in:
        yield logged_in


def dial(jupyter: Jupyter, path: str, **options: Any) -> ClientConnection:
    sent = options.pop("headers", jupyter.authorization)
    return connect(f"ws{jupyter.url[4:]}{path}", additional_headers=sent, proxy=None, **options)


def hear(websocket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while (message := json.loads(websocket.recv(30)))["type"] != kind:
        continue
    return dict(message)


def refusal(websocket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        websocket.recv(15)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_whoever_is_logged_in_to_jupyter_hears_their_training(
    workbench: Jupyter, client: httpx.Client
) -> None:
    with dial(workbench, "/ws/training") as websocket:
        hear(websocket, "connected")
        created = client.post(CLIENTS, json=MLP).json()["training_client_id"]
        assert hear(websocket, "training_status")["data"]["training_client_id"] == created
    client.delete(f"{CLIENTS}/{created}")


def test_a_page_of_jupyter_listens_by_cookie(workbench: Jupyter) -> None:
    with contextlib.closing(workbench.browser()) as browser:
        own = {**cookies(browser), "Origin": f"http://127.0.0.1:{workbench.port}"}
    with dial(workbench, "/ws/dashboard", headers=own) as websocket:
        assert hear(websocket, "system_status")["data"]["performance"]["memory_usage"] > 0


def test_a_token_in_the_subprotocol_says_who_one_is(workbench: Jupyter, client: httpx.Client) -> None:
    issued = client.post("/workbench/v1/api_keys", json={"name": "reader", "scopes": ["read"]}).json()
    offered: Any = ["tgw.v1", f"tgw.bearer.{issued['key']}"]
    with dial(workbench, "/ws/training", subprotocols=offered) as websocket:
        assert websocket.subprotocol == "tgw.v1"
        hear(websocket, "connected")
    with dial(workbench, "/ws/security", subprotocols=offered) as websocket:
        assert refusal(websocket) == 4403
    assert not workbench.said(issued["key"])


def test_a_wrong_token_is_refused_with_its_code(workbench: Jupyter) -> None:
    wrong: Any = ["tgw.v1", "tgw.bearer.tgw-" + "A" * 43]
    with dial(workbench, "/ws/training", subprotocols=wrong) as websocket:
        assert refusal(websocket) == 4401


def test_a_first_message_takes_the_place_of_the_local_key(workbench: Jupyter, client: httpx.Client) -> None:
    issued = client.post("/workbench/v1/api_keys", json={"name": "keys", "scopes": ["keys"]}).json()
    with dial(workbench, "/ws/training") as websocket:
        hear(websocket, "connected")
        websocket.send(json.dumps({"type": "auth", "token": issued["key"]}))
        assert refusal(websocket) == 4403


def test_they_end_with_jupyter() -> None:
    with running_jupyter(command=[]) as jupyter:
        with jupyter.client() as http:
            assert http.get("/health").status_code == 200
        with dial(jupyter, "/ws/training") as websocket:
            hear(websocket, "connected")
            jupyter.process.terminate()
            assert refusal(websocket) in (1000, 1001, 1006, 1012)
            assert jupyter.process.wait(30) == 0
