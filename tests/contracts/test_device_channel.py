"""A device's channel: it hears what is its own, and nobody else hears it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from tests.contracts.machines import Keys, Machine
from tests.contracts.people import Person
from tests.workbench_server import WorkbenchServer

DEVICES = "/api/v1/devices"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
Dial = Callable[..., ClientConnection]


@pytest.fixture
def dial(workbench_server: WorkbenchServer) -> Iterator[Dial]:
    """Opens a device's channel, and closes it afterwards."""
    with ExitStack() as opened:

        def connect(machine: Machine, token: str | None = None, prefix: str = "") -> ClientConnection:
            url = f"ws://workbench{prefix}/ws/device/{machine.id}"
            headers = {"Authorization": f"Bearer {token or machine.token}"}
            dialled = unix_connect(str(workbench_server.socket), url, additional_headers=headers)
            return opened.enter_context(dialled)

        yield connect


def hear(channel: ClientConnection, kind: str) -> dict[str, Any]:
    for _ in range(50):
        message: dict[str, Any] = json.loads(channel.recv(20))
        if message["type"] == kind:
            return message
    raise AssertionError(f"nothing of {kind}")


def closing_code(channel: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        hear(channel, "nothing of this name")
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.operation("S2-30")
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_device_hears_what_is_its_own(alice: Person, edge: Machine, dial: Dial, prefix: str) -> None:
    channel = dial(edge, prefix=prefix)
    assert hear(channel, "connected")["data"]["channel"] == "device"
    Machine.enroll(alice)
    new = Keys.new()
    edge.post("keys", new.as_body())
    told = hear(channel, "key_rotated")
    assert told["data"] == {"device_id": edge.id, "key_version": "v2.0"}
    assert TIME.fullmatch(told["timestamp"])


@pytest.mark.operation("S2-30")
@pytest.mark.parametrize("how", ["revoke", "deregister"])
def test_a_device_that_is_sent_away_is_let_go_at_once(
    alice: Person, edge: Machine, dial: Dial, how: str
) -> None:
    channel = dial(edge)
    hear(channel, "connected")
    if how == "revoke":
        alice.http.post(f"{edge.path}/revoke", json={"reason": "stolen"})
    else:
        alice.http.delete(f"{DEVICES}/{edge.id}")
    began = time.monotonic()
    assert closing_code(channel) == 4403
    assert time.monotonic() - began < 4
    assert closing_code(dial(edge)) == 4403


def test_a_devices_channel_opens_to_nobody_else(
    alice: Person, edge: Machine, old: Machine, dial: Dial
) -> None:
    for token in (old.token, alice.signed_in["access_token"]):
        assert closing_code(dial(edge, token)) == 4403
    assert closing_code(dial(edge, "nonsense")) == 4401
