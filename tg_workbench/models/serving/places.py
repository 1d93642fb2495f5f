"""Where a model's workers are found: the id of their work, and the Unix socket each of them listens on.

A worker listens only while it is ready to answer, so whoever can connect has a ready one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path

INFERENCE, GENERATION = "inference", "generation"
"""The kinds of work: with ONNX Runtime and without torch; with torch."""
MOST_REPLICAS = 16
_ALL_BUT_OWNER = 0o177


def work_id(target_id: str, replica: int) -> str:
    """The work of one replica. `target_id` is a service's or a model's."""
    return f"{target_id}:{replica}"


def target_of(work: str) -> tuple[str, int]:
    """Whose replica a piece of work is, and which."""
    target_id, _, replica = work.rpartition(":")
    return target_id, int(replica)


def socket_path(folder: Path, work: str) -> Path:
    """Where the worker of `work` listens. Its name is a digest: no path is made from anybody's words."""
    return folder / f"m-{hashlib.sha256(work.encode()).hexdigest()[:20]}"


def listen(path: Path) -> socket.socket:
    """A listening socket at `path` that only this user may connect to, from its first moment on."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_ALL_BUT_OWNER)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def is_listening(folder: Path, work: str) -> bool:
    """Whether a worker of `work` accepts connections now."""
    path = socket_path(folder, work)
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        with contextlib.suppress(OSError):
            caller.connect(str(path))
            return True
    return False
