"""Files that arrive in pieces, over days and restarts: how much of one is there is how long it is on disk.

They lie beside the blobs, so that a whole one becomes a blob without being copied.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tg_workbench.errors import InvalidRequest, UploadBusy, UploadNotFound, UploadOffsetWrong
from tg_workbench.storage.blobs import Blobs, room_on_disk

PIECE_BYTES = 1 << 20
_ID = re.compile(r"[a-z]{1,8}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class PartialFile:
    """One such file, named by an id of ours. It need not be there: then nothing has arrived."""

    def __init__(self, blobs: Blobs, name: str) -> None:
        if not _ID.fullmatch(name):
            raise ValueError("a partial file is named by an id of ours")
        self.blobs = blobs
        self.path = folder_of(blobs) / name

    @property
    def size(self) -> int:
        """How much has arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @contextmanager
    def appending(self, offset: int, most: int) -> Iterator[Appended]:
        """Add to it from `offset` on, up to `most` in all; on disk when the block ends, however it ends.

        Raises UploadBusy while somebody else does, UploadOffsetWrong, StorageFull.
        """
        with room_on_disk():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", 0)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy from None
            size = os.fstat(file.fileno()).st_size
            if offset != size:
                raise UploadOffsetWrong(size)
            appended = Appended(file, size, most)
            try:
                yield appended
            finally:
                if not appended.is_settled:
                    appended.settle()

    @staticmethod
    def names(name: str) -> bool:
        """Whether this is the name of a partial file, and not that of a blob."""
        return _ID.fullmatch(name) is not None

    def digest(self, expected: str | None = None, known: str | None = None) -> str:
        """The SHA-256 of what is here, which takes a second for a gigabyte unless it is `known`.

        Raises InvalidRequest when it is not the `expected` one: then it has to be sent anew; UploadNotFound
        when it was forgotten meanwhile.
        """
        if known is not None and expected in (None, known):
            return known
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    digest.update(piece)
        except FileNotFoundError:
            raise UploadNotFound from None
        if expected is not None and digest.hexdigest() != expected:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.path, 0)
            raise InvalidRequest("what has arrived is not the file whose sha256 was said: send it anew")
        return digest.hexdigest()

    def adopt(self, name: str) -> None:
        """Make the file, whose SHA-256 is `name`, a blob too; `forget` it when that is known elsewhere.

        Raises UploadNotFound when it was forgotten meanwhile.
        """
        try:
            self.blobs.adopt(self.path, name)
        except FileNotFoundError:
            raise UploadNotFound from None

    def forget(self) -> None:
        """Remove it; what became a blob stays."""
        self.path.unlink(missing_ok=True)


class Appended:
    """A partial file that is open for more."""

    def __init__(self, file: IO[bytes], size: int, most: int) -> None:
        self.size = size
        self.is_settled = False
        """Whether all of it is on the disk; what came before may not be yet."""
        self._file = file
        self._start = size
        self._most = most
        self._digest = None if size else hashlib.sha256()

    @property
    def sha256(self) -> str | None:
        """Of the file, where it has come whole in this block."""
        return None if self._digest is None else self._digest.hexdigest()

    def settle(self) -> None:
        """Bring it to the disk, which may take long; the end of the block does it where nobody has."""
        with room_on_disk():
            os.fsync(self._file.fileno())
        self.is_settled = True

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Add a piece. Raises StorageFull, and InvalidRequest when it is more than was announced."""
        if self.size + len(piece) > self._most:
            os.ftruncate(self._file.fileno(), self._start)
            raise InvalidRequest("this is more than the size that was said; nothing of it was kept")
        view = memoryview(piece)
        self.is_settled = False
        with room_on_disk():
            while view:
                written = self._file.write(view) or 0
                self.size += written
                if self._digest is not None:
                    self._digest.update(view[:written])
                view = view[written:]


def folder_of(blobs: Blobs) -> Path:
    """Where partial files lie."""
    return blobs.folder / "partial"
