"""Files named by the SHA-256 of what is in them, written whole or not at all.

Names come from contents only, never from a caller, so no path can be smuggled in.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tg_workbench.errors import NotFound, StorageFull

_NAME = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder of immutable files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes | Iterable[bytes]) -> str:
        """Store `content` and return its SHA-256 in hex. Storing it twice is storing it once.

        Raises StorageFull, in which case nothing is left behind.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256()
        with _room_on_disk():
            descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for chunk in [content] if isinstance(content, bytes) else content:
                        digest.update(chunk)
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                target = self._path(digest.hexdigest())
                target.parent.mkdir(exist_ok=True, mode=0o700)
                temporary.replace(target)
                _settle(target.parent)
            finally:
                temporary.unlink(missing_ok=True)
        return digest.hexdigest()

    def path(self, name: str) -> Path:
        """Where the blob lies, for readers that map files. Raises NotFound."""
        path = self._path(name)
        if not path.is_file():
            raise NotFound(f"blob {name[:12]} is not in this store")
        return path

    def read(self, name: str) -> bytes:
        """The blob's bytes. Raises NotFound."""
        return self.path(name).read_bytes()

    def delete(self, name: str) -> None:
        """Forget the blob; forgetting it twice is fine."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise NotFound("a blob is named by 64 hex digits")
        return self.folder / name[:2] / name


def _settle(folder: Path) -> None:
    """Have a new name in a folder survive a power cut, as the content already does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _room_on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull from failure
        raise
