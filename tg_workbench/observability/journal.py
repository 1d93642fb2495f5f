"""The journal: the log's last lines on disk, in a few files of bounded size, read from their end.

Several processes may share a folder: each takes the first name that nobody holds. A full disk, or a process
that may open no more files, costs the lines that find no room, never those that are written, nor a request.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MOST_BYTES = 4 << 20
MOST_FILES = 4
MOST_NAMES = 8
BLOCK_BYTES = 64 << 10
SUFFIX, FRESH = ".jsonl", ".new"


class Journal:
    """One process's lines. The newest file has no number; older ones are numbered by their age."""

    def __init__(self, folder: Path, name: str, *, most_bytes: int = MOST_BYTES) -> None:
        for place in (folder.parent, folder):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._held, self.path = _first_free(folder, name)
        self._file, self._size = _opened(self.path)

    def append(self, line: str) -> None:
        """Add one line, and begin another file when this one is full; without one there is twice the room."""
        data = line.encode("utf-8", "replace") + b"\n"
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._size + len(data) > self.most_bytes:
                with contextlib.suppress(OSError):
                    self._turn()
            if self._size + len(data) <= 2 * self.most_bytes:
                self._size += self._file.write(data)

    def close(self) -> None:
        """Let go of the file and of its name."""
        self._file.close()
        self._held.close()

    def _turn(self) -> None:
        """Begin another file. It is opened first: when that fails, nothing has changed."""
        fresh = self.path.with_name(f"{self.path.name}{FRESH}")
        file, size = _opened(fresh)
        try:
            for number in range(MOST_FILES - 1, 0, -1):
                older, newer = _numbered(self.path, number), _numbered(self.path, number - 1)
                if newer.exists():
                    newer.replace(older)
            fresh.replace(self.path)
        except OSError:
            file.close()
            raise
        self._file.close()
        self._file, self._size = file, size


def newest_first(folder: Path) -> list[Iterator[bytes]]:
    """The lines of every journal in `folder`, each from its end to its beginning."""
    names = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
    return [_lines_of(path) for path in names]


def _lines_of(path: Path) -> Iterator[bytes]:
    seen = set[int]()
    for number in range(MOST_FILES):
        with contextlib.suppress(FileNotFoundError), _numbered(path, number).open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode not in seen:  # else the files were turned while we read
                seen.add(inode)
                yield from backwards(file)


def backwards(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file from the last to the first, a block at a time; a line being written is left out."""
    position = file.seek(0, os.SEEK_END)
    rest, is_last = b"", True
    while position > 0:
        size = min(BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        first, *lines = (file.read(size) + rest).split(b"\n")
        if is_last and lines:
            lines.pop()
            is_last = False
        yield from reversed(lines)
        rest = first
    if rest and not is_last:
        yield rest


def _opened(path: Path) -> tuple[IO[bytes], int]:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return os.fdopen(fd, "ab", buffering=0), os.fstat(fd).st_size


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _first_free(folder: Path, name: str) -> tuple[IO[bytes], Path]:
    """A name that no living process writes to; the last one is shared by all who come later."""
    for number in range(MOST_NAMES):
        path = folder / f"{name}{f'-{number}' if number else ''}{SUFFIX}"
        lock = path.with_suffix(".lock").open("ab")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        if number < MOST_NAMES - 1:
            lock.close()
    return lock, path
