"""The folder of the API's socket: found by nobody else, and gone when its owner is."""

from __future__ import annotations

import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tg_server_extension.socket_folder import SocketFolder, sweep


@pytest.fixture
def parent() -> Iterator[Path]:
    """A short path: a socket's may not be long."""
    with tempfile.TemporaryDirectory(prefix="tgf-") as folder:
        yield Path(folder)


def test_it_listens_in_private(parent: Path) -> None:
    folder = SocketFolder(parent)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(folder.socket))
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.socket.stat().st_mode) == 0o600
    folder.remove()


def test_removing_it_leaves_nothing(parent: Path) -> None:
    folder = SocketFolder(parent)
    folder.remove()
    folder.remove()
    assert list(parent.iterdir()) == []


def test_a_sweep_spares_the_living(parent: Path) -> None:
    folder = SocketFolder(parent)
    sweep(parent)
    assert folder.socket.exists()
    folder.remove()


def test_a_sweep_spares_what_is_not_ours(parent: Path) -> None:
    (parent / "tg-workbench-notes").mkdir()
    sweep(parent)
    assert (parent / "tg-workbench-notes").exists()


def test_a_path_too_long_for_a_socket_is_not_used(parent: Path) -> None:
    folder = SocketFolder(parent / ("x" * 90))
    assert folder.path.parent == Path(tempfile.gettempdir())
    folder.remove()
