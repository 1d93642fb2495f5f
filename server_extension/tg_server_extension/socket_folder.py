"""The API's socket: bound and listening in a private folder, owned by Jupyter for as long as it lives.

**Why.** Because the parent owns the socket, requests wait in its queue while the API restarts. The folder is
0700 and the socket 0600: any process of this user can reach the API, nobody else can.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from pathlib import Path

PREFIX = "tg-workbench-"
LONGEST_PATH = 103  # macOS; Linux takes four bytes more
QUEUE = 1024


class SocketFolder:
    """One private folder with one listening Unix socket, and a lock that tells it from a dead one."""

    def __init__(self, parent: Path) -> None:
        """Sweep what dead servers left in `parent`, then make a folder there and listen."""
        parent = parent if _fits(parent) else Path(tempfile.gettempdir())
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(parent)
        # Locked before it has the name that sweepers look for.
        new = Path(tempfile.mkdtemp(prefix=f".new-{PREFIX}", dir=parent))
        self._lock = os.open(new / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = new.rename(parent / new.name.removeprefix(".new-"))
        self.socket = self.path / "api.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.socket))
        self.socket.chmod(0o600)
        self.listener.listen(QUEUE)

    def remove(self) -> None:
        """Stop listening and leave nothing behind. May be called twice."""
        if self._lock < 0:
            return
        self.listener.close()
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def sweep(parent: Path) -> None:
    """Remove the folders in `parent` whose server was killed: their lock is free."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder / "owner", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or not one of ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # its server lives
        finally:
            os.close(lock)


def _fits(parent: Path) -> bool:
    return len(os.fsencode(parent / f".new-{PREFIX}12345678" / "api.sock")) <= LONGEST_PATH
