"""The WebSockets of a running workbench: who may listen, what is told, and what never is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.contracts.conftest import Caller
from tests.contracts.people import People
from tests.workbench_server import WorkbenchServer
from tg_workbench.contracts.broadcasts import MOST_AT_THE_DOOR
from tg_workbench.events import AlertChanged, Events, tenant_subject
from tg_workbench.identity import ApiKeys, Principal
from tg_workbench.storage import Database

Dial = Callable[..., ClientConnection]
EVE = Principal("eve", "eves", frozenset({"read", "train", "monitoring"}))
TEXTS = {"name": "letters", "texts": ["dear one", "dear two", "dear three", "dear four"]}


@pytest.fixture
def dial(workbench_server: WorkbenchServer) -> Iterator[Dial]:
    """Opens WebSockets, and closes them afterwards. `token` goes into the header unless it is None."""
    with contextlib.ExitStack() as opened:

        def connect(path: str, token: str | None = workbench_server.api_key, **more: Any) -> ClientConnection:
            headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
            headers |= more.pop("headers", {})
            url = f"ws://workbench{path}"
            dialled = unix_connect(str(workbench_server.socket), url, additional_headers=headers, **more)
            return opened.enter_context(dialled)

        yield connect


@pytest.fixture
def key_of(workbench_server: WorkbenchServer) -> Callable[..., tuple[str, str]]:
    """Issues a key to somebody: its id and its secret."""

    def issue(principal: Principal, *scopes: str) -> tuple[str, str]:
        database = Database(workbench_server.database_url)
        with database.write() as session:
            key, secret = ApiKeys(session).issue(principal, "x", list(scopes or principal.scopes))
        database.close()
        return key.id, secret

    return issue


def wait_for(
    websocket: ClientConnection, wanted: Callable[[dict[str, Any]], bool], seconds: float
) -> dict[str, Any]:
    """The next message that is wanted."""
    deadline = time.monotonic() + seconds
    while True:
        message: dict[str, Any] = json.loads(websocket.recv(max(0.01, deadline - time.monotonic())))
        assert {"type", "timestamp", "data"} <= set(message) <= {"type", "timestamp", "data", "id"}
        if wanted(message):
            return message


def hear(websocket: ClientConnection, kind: str | None = None, seconds: float = 30) -> dict[str, Any]:
    """The next message, or the next of a kind."""
    return wait_for(websocket, lambda message: kind in (None, message["type"]), seconds)


def refusal(websocket: ClientConnection) -> int:
    """The code a WebSocket is closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        wait_for(websocket, lambda message: False, 15)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def train(caller: Caller, steps: int = 3, **more: Any) -> tuple[str, str]:
    """A private run of a few steps, to its end: the client and its future."""
    dataset = caller.http.post("/workbench/v1/datasets", json=TEXTS).json()["dataset_id"]
    client_id = caller.create(model_ref="tiny-llama", architecture=None, dataset_id=dataset, **more)
    future = caller.own(client_id, "train", {"steps": steps}).json()["future_id"]
    deadline = time.monotonic() + 120
    while not (seen := caller.http.get(f"/api/v1/futures/{future}").json())["completed_at"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert seen["status"] == "completed", seen
    return client_id, future


# ----------------------------------------------------------------------------- who may listen
@pytest.mark.operation("S2-29")
@pytest.mark.parametrize(
    "path", [f"{p}/ws/{c}" for p in ("", "/api/v1") for c in ("dashboard", "training", "security")]
)
def test_a_key_in_a_header_opens_every_channel(dial: Dial, path: str) -> None:
    assert hear(dial(path))["data"]["channel"] == path.rsplit("/", 1)[1]


def test_x_api_key_opens_one_too(dial: Dial, workbench_server: WorkbenchServer) -> None:
    websocket = dial("/ws/training", None, headers={"X-API-Key": workbench_server.api_key})
    assert hear(websocket)["type"] == "connected"


def test_a_browser_names_its_token_in_the_subprotocol(dial: Dial, workbench_server: WorkbenchServer) -> None:
    offered = ["tgw.v1", f"tgw.bearer.{workbench_server.api_key}"]
    websocket = dial("/ws/training", None, subprotocols=offered)
    assert websocket.subprotocol == "tgw.v1"
    assert hear(websocket)["type"] == "connected"


def test_or_in_a_first_message(dial: Dial, workbench_server: WorkbenchServer) -> None:
    websocket = dial("/ws/training", None)
    websocket.send(json.dumps({"type": "auth", "token": workbench_server.api_key}))
    assert hear(websocket)["type"] == "connected"


def test_but_never_in_the_query(dial: Dial, workbench_server: WorkbenchServer) -> None:
    key = workbench_server.api_key
    websocket = dial(f"/ws/training?token={key}&access_token={key}&api_key={key}", None)
    assert refusal(websocket) == 4401
    assert key not in workbench_server.log.read_text()
    assert '"code": 4401, "event": "websocket refused"' in workbench_server.log.read_text()


def test_whoever_says_nothing_is_let_go_after_five_seconds(dial: Dial) -> None:
    websocket, began = dial("/ws/training", None), time.monotonic()
    assert refusal(websocket) == 4401
    assert 4 < time.monotonic() - began < 10


def test_those_who_say_nothing_keep_out_nobody_who_is_signed_in(
    dial: Dial, workbench_server: WorkbenchServer
) -> None:
    silent = [dial("/ws/training", None) for _ in range(MOST_AT_THE_DOOR)]
    with pytest.raises(InvalidStatus) as refused:
        dial("/ws/training", None)
    assert refused.value.response.status_code == 503
    for websocket in silent[:3]:
        websocket.send(json.dumps({"type": "auth", "token": workbench_server.api_key}))
        assert hear(websocket)["type"] == "connected"
    assert hear(dial("/ws/training"))["type"] == "connected"
    for websocket in silent[3:]:
        websocket.close()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "auth", "token": "tgw-" + "A" * 43},
        {"type": "auth", "token": 5},
        {"type": "auth", "token": "ü" * 10},
        {"type": "auth", "token": ""},
        {"type": "auth"},
        {"type": "subscribe"},
    ],
    ids=str,
)
def test_a_first_message_that_is_no_credential_is_4401(dial: Dial, message: dict[str, Any]) -> None:
    websocket = dial("/ws/dashboard", None)
    websocket.send(json.dumps(message))
    assert refusal(websocket) == 4401


def test_a_wrong_key_is_4401_wherever_it_stands(dial: Dial) -> None:
    wrong = "tgw-" + "B" * 43
    assert refusal(dial("/ws/training", wrong)) == 4401
    assert refusal(dial("/ws/training", None, subprotocols=["tgw.v1", f"tgw.bearer.{wrong}"])) == 4401


def test_a_wrong_token_is_not_made_good_by_a_header_that_a_proxy_added(dial: Dial) -> None:
    websocket = dial("/ws/training", subprotocols=["tgw.v1", "tgw.bearer.tgw-" + "B" * 43])
    assert refusal(websocket) == 4401


def test_a_key_without_the_channels_scope_is_4403(dial: Dial, key_of: Callable[..., tuple[str, str]]) -> None:
    reader = key_of(EVE, "read")[1]
    assert hear(dial("/ws/training", reader))["type"] == "connected"
    assert refusal(dial("/ws/security", reader)) == 4403
    assert refusal(dial("/ws/training", key_of(EVE, "monitoring")[1])) == 4403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://workbench.evil.example"])
def test_a_page_of_another_site_is_4403(dial: Dial, origin: str) -> None:
    assert refusal(dial("/ws/training", headers={"Origin": origin})) == 4403


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://workbench"])
def test_a_page_on_the_list_or_of_this_server_may(dial: Dial, origin: str) -> None:
    assert hear(dial("/ws/training", headers={"Origin": origin}))["type"] == "connected"


def test_a_revoked_key_hears_no_more(
    dial: Dial, api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    issued = api.post("/workbench/v1/api_keys", json={"name": "x", "scopes": ["read"]}).json()
    websocket = dial("/ws/training", issued["key"])
    hear(websocket)
    api.delete(f"/workbench/v1/api_keys/{issued['key_id']}")
    assert refusal(websocket) == 4401


def test_a_revoked_key_hears_no_more_of_a_long_replay(
    api: httpx.Client, workbench_server: WorkbenchServer, key_of: Callable[..., tuple[str, str]]
) -> None:
    """Whoever reads slowly is sent what they missed for minutes: their key is looked at all the while."""
    long = Principal("long", "longs", frozenset({"read", "monitoring"}))
    fact = AlertChanged("a", "r", "firing", "info", "s", 1.0, 1.0, "m" * 1000)
    database = Database(workbench_server.database_url)
    with database.write() as session:
        for _ in range(4000):
            Events(session).record(tenant_subject("longs"), fact)
    key_id, secret = key_of(long)
    line = socket.socket(socket.AF_UNIX)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(str(workbench_server.socket))
    headers = {"Authorization": f"Bearer {secret}"}
    url = "ws://workbench/ws/security?last_event_id=0"
    with connect(url, sock=line, additional_headers=headers, max_queue=1) as websocket:
        hear(websocket)
        with database.write() as session:
            ApiKeys(session).revoke(long, key_id)
        database.close()
        time.sleep(6)
        heard = 0
        with contextlib.suppress(ConnectionClosed):
            for _ in websocket:
                heard += 1
    assert heard < 2000
    assert websocket.close_code == 4401


def test_a_signed_in_user_listens_until_they_sign_out(dial: Dial, people: People) -> None:
    user = people.register("listener")
    token = user.http.headers["Authorization"].removeprefix("Bearer ")
    websocket = dial("/ws/training", None, subprotocols=["tgw.v1", f"tgw.bearer.{token}"])
    hear(websocket)
    client_id = Caller(user.http).create()
    assert hear(websocket, "training_status")["data"]["training_client_id"] == client_id
    assert refusal(dial("/ws/security", token)) == 4403
    assert user.http.delete("/workbench/v1/sessions/current").status_code == 200
    assert refusal(websocket) == 4401


def test_a_token_can_be_renewed_and_a_bad_renewal_ends_it(
    dial: Dial, workbench_server: WorkbenchServer
) -> None:
    websocket = dial("/ws/training")
    hear(websocket)
    websocket.send(json.dumps({"type": "auth", "token": workbench_server.api_key}))
    websocket.send("no json")
    websocket.send(b"\x00\x01")
    websocket.send(json.dumps({"type": "something else"}))
    websocket.send(json.dumps({"type": "auth", "token": "tgw-" + "C" * 43}))
    assert refusal(websocket) == 4401


@pytest.mark.operation("S2-29")
def test_there_are_no_other_channels(dial: Dial) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial("/ws/everything")
    assert refused.value.response.status_code == 403


def test_a_message_that_is_too_long_ends_it(dial: Dial) -> None:
    websocket = dial("/ws/training")
    hear(websocket)
    websocket.send("x" * 20_000)
    assert refusal(websocket) == 1009


def test_one_principal_has_only_so_many(dial: Dial, key_of: Callable[..., tuple[str, str]]) -> None:
    secret = key_of(Principal("crowd", "crowds", frozenset({"read"})))[1]
    crowd = [dial("/ws/training", secret) for _ in range(33)]
    assert {hear(websocket)["type"] for websocket in crowd[:32]} == {"connected"}
    assert refusal(crowd[32]) == 1013
    assert hear(dial("/ws/training"))["type"] == "connected"


# ----------------------------------------------------------------------------- what is told
@pytest.mark.operation("S2-29")
def test_a_run_is_told_live_without_anything_raw(dial: Dial, caller: Caller) -> None:
    training, dashboard = dial("/ws/training"), dial("/ws/dashboard")
    client_id, future = train(caller, dp_config={"enabled": True, "noisy_loss_bound": 5.0})
    for websocket in (training, dashboard):
        progress = hear(websocket, "training_progress")
        while progress["data"]["training_client_id"] != client_id:
            progress = hear(websocket, "training_progress")
        data = progress["data"]
        assert set(data["points"]) == {"step", "epsilon", "noisy_loss"}
        assert 0 < data["progress_percentage"] <= 100
        assert data["total_steps"] == 3
        assert data["privacy"]["guarantee"] == "differential_privacy"
        assert data["privacy"]["spent_epsilon"] > 0
        ended = hear(websocket, "training_ended")
        assert ended["data"] == {"training_client_id": client_id, "future_id": future, "status": "completed"}
        assert ended["id"] > progress["id"]


def test_no_message_holds_a_raw_loss_a_norm_or_a_reason(dial: Dial, caller: Caller) -> None:
    client_id, _ = train(caller)
    history = caller.http.get(f"/workbench/v1/training_clients/{client_id}/history").json()["events"]
    raw = [loss for event in history for loss in event["data"].get("points", {}).get("loss", ())]
    websocket = dial(f"/ws/training?last_event_id={history[0]['id'] - 1}")
    texts = []
    while "training_ended" not in (text := str(websocket.recv(30))):
        texts.append(text)
    assert raw
    assert any("training_progress" in text for text in texts)
    for text in texts:
        assert not [loss for loss in raw if loss is not None and repr(loss) in text]
        assert not [word for word in ('"loss"', "norm", "reason", "batch") if word in text]


def test_nobody_hears_of_somebody_elses_training(
    dial: Dial, caller: Caller, key_of: Callable[..., tuple[str, str]]
) -> None:
    secret = key_of(EVE)[1]
    hers = dial("/ws/training?last_event_id=0", secret), dial("/ws/dashboard?last_event_id=0", secret)
    client_id = caller.create()
    caller.until(client_id, lambda view: view["status"] == "ready")
    own = dial("/ws/training?last_event_id=0")
    assert hear(own, "training_status")
    for websocket in hers:
        with pytest.raises(TimeoutError):
            wait_for(websocket, lambda message: message["type"].startswith(("training", "checkpoint")), 2)


def test_an_alert_is_a_security_event_for_its_tenant(
    dial: Dial, api: httpx.Client, key_of: Callable[..., tuple[str, str]]
) -> None:
    security, dashboard, eves = (
        dial("/ws/security"),
        dial("/ws/dashboard"),
        dial("/ws/security", key_of(EVE)[1]),
    )

    def of_the_disk(message: dict[str, Any]) -> bool:  # others may fire where much is done
        return message["type"] == "security_alert" and message["data"]["rule"] == "disk_nearly_full"

    hear(security), hear(dashboard), hear(eves)
    rule = "/workbench/v1/alert_rules/disk_nearly_full"
    api.post(rule, json={"threshold": 1e-9})
    for websocket in (security, dashboard):
        fired = wait_for(websocket, of_the_disk, 30)["data"]
        assert (fired["state"], fired["subject"]) == ("firing", "disk")
    api.post(rule, json={"threshold": 0.999999})
    assert wait_for(security, of_the_disk, 30)["data"]["state"] == "resolved"
    with pytest.raises(TimeoutError):
        hear(eves, seconds=1)


def test_the_dashboard_tells_how_the_system_is(dial: Dial) -> None:
    websocket = dial("/ws/dashboard")
    first, second = hear(websocket, "system_status"), hear(websocket, "system_status", 15)
    for message in (first, second):
        assert set(message["data"]) == {"federated_learning", "security", "performance"}
        assert message["timestamp"].endswith("Z")


def test_what_was_missed_comes_first_and_nothing_twice(dial: Dial, caller: Caller) -> None:
    client_id, _ = train(caller)
    history = caller.http.get(f"/workbench/v1/training_clients/{client_id}/history").json()["events"]
    middle = history[len(history) // 2]["id"]
    websocket = dial(f"/ws/training?last_event_id={middle}")
    seen = []
    while (message := hear(websocket))["type"] != "training_ended":
        seen.append(message.get("id"))
    ids = [event_id for event_id in seen if event_id is not None]
    assert ids == sorted(set(ids))
    assert min(ids) > middle
    again = dial("/ws/training", None)
    again.send(
        json.dumps(
            {"type": "auth", "token": caller.http.headers["authorization"][7:], "last_event_id": middle}
        )
    )
    assert [hear(again)["type"], hear(again)["id"]] == ["connected", ids[0]]


# ----------------------------------------------------------------------------- at the end
def test_it_says_goodbye_when_the_server_stops() -> None:
    server = WorkbenchServer()
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with unix_connect(
        str(server.socket), "ws://workbench/ws/dashboard", additional_headers=headers
    ) as websocket:
        hear(websocket)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert refusal(websocket) in (1001, 1012)
    server._terminate()
    assert time.monotonic() - began < 12
    server.stop()
