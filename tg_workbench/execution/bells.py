"""Bells: how one process tells another to look at the database again.

A bell is a Unix datagram socket in a folder that only we may enter. A ring carries a topic and nothing else;
it may be lost, so it speeds things up and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tg_workbench.errors import InvalidSetting

ANYTHING = "*"
"""The topic of whoever wants to hear every ring."""
_LONGEST_SOCKET_PATH = 90  # bytes; Linux allows 107, macOS 103, and a file name is still to be added


def run_folder(home: Path) -> Path:
    """The 0700 folder for `home`'s sockets and locks: inside it, or in the temporary folder when too deep."""
    folder = home / "run"
    if len(os.fsencode(folder)) + 24 > _LONGEST_SOCKET_PATH:
        name = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"tgw-{os.getuid()}-{name}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise InvalidSetting(
            "TG_HOME", str(home), "a folder of your own: its socket folder belongs to another user"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def bell_name(subject: str) -> str:
    """A short, safe file name for the bell of `subject`."""
    return "w-" + hashlib.sha256(subject.encode()).hexdigest()[:20]


class Bell:
    """One process's own bell, waited on by one thread."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, at most `seconds`. Many rings count as one."""
        ready, _, _ = select.select([self.socket], [], [], max(0.0, seconds))
        if ready:
            self.topics()
        return bool(ready)

    def topics(self) -> set[str]:
        """What was rung since last asked."""
        heard: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.add(self.socket.recv(256).decode("utf-8", "replace"))
        return heard

    def close(self) -> None:
        """Take the bell down."""
        self.socket.close()
        self.path.unlink(missing_ok=True)


def ring(folder: Path, pattern: str, topic: str = "") -> None:
    """Ring every bell whose file name matches `pattern`; bells whose owner is gone are taken down."""
    for path in folder.glob(pattern) if "*" in pattern else (folder / pattern,):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(topic.encode()[:256], str(path))
            except ConnectionRefusedError:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            except (BlockingIOError, OSError):
                continue  # a full or vanishing bell: its owner looks again by itself


class AsyncBells:
    """The API's bell: any number of coroutines wait for topics on one socket."""

    FALLBACK_SECONDS = 0.2

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bell: Bell | None = None
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def open(self) -> None:
        """Hang the bell up in the running event loop."""
        self._bell = Bell(self.folder, f"api-{os.getpid()}")
        asyncio.get_running_loop().add_reader(self._bell.socket, self._heard)

    def close(self) -> None:
        """Take it down, and wake everybody so that they can see it is over."""
        if self._bell is not None:
            asyncio.get_running_loop().remove_reader(self._bell.socket)
            self._bell.close()
            self._bell = None
        for topic in list(self._waiting):
            self.wake(topic)

    @contextlib.contextmanager
    def listening(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever `topic` is rung; clear it before you look, then wait for it."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            yield event
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def heard(self, event: asyncio.Event, seconds: float | None = None) -> None:
        """Wait for `event`, at most `seconds` (default: the time after which one looks again anyway)."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), self.FALLBACK_SECONDS if seconds is None else seconds)

    def wake(self, topic: str) -> None:
        """Set the events of everybody who waits for `topic`."""
        for event in self._waiting.get(topic, ()):
            event.set()

    def _heard(self) -> None:
        if self._bell is not None:
            for topic in (*self._bell.topics(), ANYTHING):
                self.wake(topic)
