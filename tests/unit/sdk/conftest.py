from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer
from tg_workbench import Workbench
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.connection import Connection


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server whose script the test writes."""
    with tempfile.TemporaryDirectory(prefix="tgw-") as folder:  # short: socket paths have 107 bytes
        scripted = ScriptedServer(Path(folder) / "s.sock")
        yield scripted
        scripted.close()


@pytest.fixture
def connection(server: ScriptedServer) -> Iterator[Connection]:
    """A connection that is patient for one second."""
    connection = Connection(Address("http://workbench", str(server.path), "tgw-secret"), patience=1.0)
    yield connection
    connection.close()


@pytest.fixture
def workbench(server: ScriptedServer) -> Iterator[Workbench]:
    """A workbench behind that server."""
    with Workbench(socket=str(server.path), api_key="tgw-secret", timeout=1.0) as workbench:
        yield workbench
