"""Files named by the SHA-256 of what is in them, written whole or not at all.

Names come from contents only, never from a caller, so no path can be smuggled in.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from tg_workbench.errors import NotFound, StorageFull

_NAME = re.compile(r"[0-9a-f]{64}")
_NEW = ".new-"


class Blobs:
    """A folder of immutable files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes | Iterable[bytes], announce: Callable[[str], object] | None = None) -> str:
        """Store `content` and return its SHA-256 in hex. Storing it twice is storing it once.

        `announce` is told that name before there is a blob of it: who is killed then leaves none unheard of.
        Raises StorageFull, and what `announce` does, in which case nothing is left behind.
        """
        with self.writer() as writer:
            for chunk in [content] if isinstance(content, bytes) else content:
                writer.write(chunk)
            if announce is not None:
                announce(writer.finish())
            return writer.keep()

    def writer(self) -> BlobWriter:
        """A new blob, to be written in pieces. Raises StorageFull."""
        with room_on_disk():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return BlobWriter(self)

    def adopt(self, path: Path, name: str) -> None:
        """Have a file that lies beside the blobs, whose SHA-256 is `name`, be one too. Raises StorageFull."""
        target = self._path(name)
        with room_on_disk():
            target.parent.mkdir(exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                os.link(path, target)
            settle(target.parent)

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

    def sweep(self) -> int:
        """Remove what writers have left that were killed; how many files that were.

        Those that live hold a lock on theirs, so this may be called at any time, by any process.
        """
        removed = 0
        for path in self.folder.glob(f"{_NEW}*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
        return removed

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise NotFound("a blob is named by 64 hex digits")
        return self.folder / name[:2] / name


class BlobWriter:
    """A blob that is being written: nothing of it stays unless `keep` is called before the block ends."""

    def __init__(self, blobs: Blobs) -> None:
        self.size = 0
        self._blobs = blobs
        self._digest = hashlib.sha256()
        self._file, self.path = _locked(blobs.folder)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.drop()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Add to it. Raises StorageFull."""
        with room_on_disk():
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> str:
        """Bring it to the disk, which may take long; its SHA-256 in hex. Raises StorageFull."""
        with room_on_disk():
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def keep(self) -> str:
        """Make it a blob, and return its name. Raises StorageFull."""
        name = self.finish()
        with room_on_disk():
            target = self._blobs._path(name)
            target.parent.mkdir(exist_ok=True, mode=0o700)
            self.path.replace(target)
            settle(target.parent)
        self._file.close()
        return name

    def drop(self) -> None:
        """Forget it; what is a blob already stays one."""
        if self._file.closed:
            return
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be written any more need not be
            self._file.close()


def _locked(folder: Path) -> tuple[IO[bytes], Path]:
    """A new file and a lock on it, which whoever sweeps looks for."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=_NEW)
        file = os.fdopen(descriptor, "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # else it was swept away before it was locked
            return file, Path(name)
        file.close()


def settle(folder: Path) -> None:
    """Have a new name in a folder survive a power cut, as the content already does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def room_on_disk() -> Iterator[None]:
    """A block in which a full disk is StorageFull."""
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull from failure
        raise
