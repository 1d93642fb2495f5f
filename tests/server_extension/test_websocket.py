"""WebSockets pass the same gate, carry the same credentials, and end at both ends together."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.server_extension.jupyter import Jupyter, in_threads, wait_until
from tests.server_extension.test_credentials import headers


def dial(jupyter: Jupyter, target: str = "/echo", **options: Any) -> ClientConnection:
    """A WebSocket to the API; `headers` replace the token."""
    sent = options.pop("headers", jupyter.authorization)
    return connect(f"ws{jupyter.url[4:]}{target}", additional_headers=sent, proxy=None, **options)


def cookies(browser: httpx.Client) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)}


@pytest.mark.parametrize("wrong", [{}, {"Authorization": "token wrong"}, {"X-API-Key": "tgw-wrong"}])
def test_nobody_opens_one_without_a_login(jupyter: Jupyter, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        dial(jupyter, headers=wrong)
    assert refusal.value.response.status_code == 403


def test_another_origin_opens_none_by_cookie(jupyter: Jupyter, browser: httpx.Client) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        dial(jupyter, headers={**cookies(browser), "Origin": "http://evil.example"})
    assert refusal.value.response.status_code == 403


def test_a_page_of_jupyter_opens_one_by_cookie(jupyter: Jupyter, browser: httpx.Client) -> None:
    own = {**cookies(browser), "Origin": f"http://127.0.0.1:{jupyter.port}"}
    with dial(jupyter, headers=own) as websocket:
        seen = websocket.recv()
    assert {"cookie", "origin"}.isdisjoint(headers({"headers": json.loads(seen)}))


def test_the_api_sees_the_local_key_and_not_the_token(jupyter: Jupyter) -> None:
    with dial(jupyter, f"/echo?token={jupyter.token}") as websocket:
        seen = str(websocket.recv())
    assert jupyter.token not in seen
    assert headers({"headers": json.loads(seen)})["x-api-key"].startswith("tgw-")


@pytest.mark.parametrize("message", ["text ☃", "", b"\x00\xff", bytes(2 * 1024 * 1024)], ids=repr)
def test_messages_go_both_ways_as_they_are(jupyter: Jupyter, message: str | bytes) -> None:
    with dial(jupyter, max_size=None) as websocket:
        websocket.recv()
        websocket.send(message)
        assert websocket.recv() == message


def test_the_api_chooses_the_protocol(jupyter: Jupyter) -> None:
    with dial(jupyter, subprotocols=["one", "two"]) as websocket:
        assert websocket.subprotocol == "two"


def test_the_api_may_refuse(jupyter: Jupyter) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        dial(jupyter, "/refused")
    assert refusal.value.response.status_code == 403


def test_the_api_hears_that_the_caller_left(jupyter: Jupyter) -> None:
    with dial(jupyter) as websocket:
        websocket.recv()
        websocket.close(4000)
    wait_until(lambda: jupyter.seen()["streams"].get("websocket") == "closed 4000")


def test_the_caller_hears_that_the_api_left(jupyter: Jupyter) -> None:
    with dial(jupyter) as websocket:
        websocket.recv()
        websocket.send("leave")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4321


def test_thirty_two_run_side_by_side(jupyter: Jupyter) -> None:
    def talk(number: int) -> None:
        with dial(jupyter) as websocket:
            websocket.recv()
            for word in range(20):
                websocket.send(f"{number} {word}")
                assert websocket.recv() == f"{number} {word}"

    in_threads(32, talk)


def test_asking_for_one_opens_no_other_door(jupyter: Jupyter) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert httpx.post(f"{jupyter.url}/echo", headers=upgrade).status_code == 403
    assert httpx.get(f"{jupyter.url}/echo", headers=upgrade).status_code == 403
