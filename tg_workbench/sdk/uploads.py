"""Sending a file: piece by piece, and on from where it was when the line or the workbench breaks down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import (
    CallFailed,
    QuotaExceeded,
    RateLimited,
    UploadBusy,
    UploadOffsetWrong,
    UploadTooSlow,
    WorkbenchError,
)
from tg_workbench.sdk.connection import Body, Call, Connection, StreamedBody
from tg_workbench.sdk.patience import Patience, wait_for_turn
from tg_workbench.sdk.progress import Bar, bar_here, html_of
from tg_workbench.sdk.sources import SourceFile
from tg_workbench.sdk.wire import WireBroken

UPLOADS = "/workbench/v1/uploads"
OCTETS = "application/octet-stream"
PIECE_BYTES, MOST_PIECE_BYTES = 4 << 20, 32 << 20
"""The first one, and the largest: every piece costs a way there and back, and to be brought to the disk."""
QUICK_SECONDS = 1.0
"""What took longer is followed by nothing larger: progress is told of with each piece."""
PIECE_SECONDS, LAST_PIECE_SECONDS = 60.0, 300.0
"""With the last piece the workbench reads the whole file once, to know that it came as it was sent."""
LEAST_PIECE_BYTES, READ_BYTES = 256 << 10, 256 << 10
PASSING = (UploadBusy, UploadTooSlow, RateLimited, QuotaExceeded)
"""What a piece may fail for and the next one not: the request of a broken line is still there, say."""
SHOWN_FROM_BYTES = 8 << 20
"""What is smaller is there before a bar could be read."""
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")

Watcher = Callable[[int, int], object]
"""Is told how many bytes have arrived, and of how many."""


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """One moment of an upload."""

    name: str
    sent: int
    size: int
    seconds: float = 0.0
    """For how long it has been going."""

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return self.sent / self.size if self.size else 1.0

    def __str__(self) -> str:
        """One line: which file, how much of it has arrived, and how quickly."""
        speed = f" · {readable(self.sent / self.seconds)}/s" if self.seconds > 0.5 else ""
        return f"{self.name} · {readable(self.sent)} of {readable(self.size)}{speed}"

    def as_html(self) -> str:
        """The same with a bar."""
        return html_of(self.fraction, str(self))


class Upload:
    """One file on its way. `send` gives the id of the dataset that it becomes."""

    def __init__(self, connection: Connection, file: SourceFile, watch: Watcher | bool = True) -> None:
        self._connection = connection
        self._file = file
        self._size = file.size
        self._watch = watch if callable(watch) else None
        self._bar: Bar = bar_here(wanted=watch is True and self._size >= SHOWN_FROM_BYTES)
        self._began = time.monotonic()

    def send(self, fields: Mapping[str, Any]) -> str:
        """Send it, with what is said of it.

        Raises what the workbench refuses it for, UploadNotFound when it took longer than a day, CallFailed.
        """
        announced = {
            **fields,
            "file_name": self._file.name,
            "size": self._size,
            "sha256": self._file.digest(),
        }
        upload = self._connection.post(UPLOADS, Body.of_json(announced))
        path = f"{UPLOADS}/{upload['upload_id']}"
        sending = Sending(self._connection, self._file, self._tell)
        upload = sending.finish(path, upload, lambda seen: seen.get("dataset_id") is not None)
        self._tell(self._size, last=True)
        return str(upload["dataset_id"])

    def _tell(self, sent: int, *, last: bool = False) -> None:
        seconds = time.monotonic() - self._began
        self._bar.show(UploadProgress(self._file.name, sent, self._size, seconds), last=last)
        if self._watch is not None:
            self._watch(sent, self._size)


class Sending:
    """Sends a file to an upload that was begun, on from where that is.

    Pieces grow while the line is quick. After one that did not arrive it asks how much is there, and sends
    smaller ones for a while: one that is refused would have been sent in vain.
    """

    def __init__(
        self,
        connection: Connection,
        file: SourceFile,
        tell: Callable[[int], object],
        most_bytes: int | None = None,
    ) -> None:
        self._connection = connection
        self._file = file
        self._size = file.size
        self._tell = tell
        self._most, self._next = most_bytes or MOST_PIECE_BYTES, most_bytes or PIECE_BYTES

    def finish(
        self, path: str, upload: dict[str, Any], is_done: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The upload at `path` once it is done; `upload` is how it stands now.

        Raises what the workbench refuses it for, UploadNotFound when its time was over, CallFailed.
        """
        patience = Patience(self._connection.patience)
        while not is_done(upload):
            offset, began = int(upload["offset"]), time.monotonic()
            self._tell(offset)
            try:
                upload = self._send_piece(path, offset)
                failure: WorkbenchError = CallFailed(f"nothing of {self._file.name} arrives any more")
                if time.monotonic() - began < QUICK_SECONDS:
                    self._next = min(2 * self._next, self._most)
            except UploadOffsetWrong as elsewhere:  # a try whose answer was lost did arrive, or a part of it
                upload, failure = {"offset": elsewhere.offset}, elsewhere
            except (WireBroken, *PASSING) as broken:
                failure = self._connection.unreachable(broken) if isinstance(broken, WireBroken) else broken
                self._next = min(self._next, LEAST_PIECE_BYTES)
                wait_for_turn(failure)
                upload = self._connection.get(path)
            if not is_done(upload) and int(upload["offset"]) <= offset:
                patience.wait_after(failure)
            else:
                patience.restore()
        return upload

    def _send_piece(self, path: str, offset: int) -> dict[str, Any]:
        """Send what follows; nothing, where all has arrived and only its end was not heard of."""
        size = max(0, min(self._next, self._size - offset))
        is_last = offset + size >= self._size
        call = Call(
            "PATCH",
            path,
            body=StreamedBody(_Piece(self._file, offset, size), OCTETS, size),
            headers={"Upload-Offset": str(offset)},
            answer_seconds=LAST_PIECE_SECONDS if is_last else PIECE_SECONDS,
        )
        return self._connection.send_once(call)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a file, which is read while it is sent."""

    file: SourceFile
    offset: int
    size: int

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        with self.file.path.open("rb") as file:
            file.seek(self.offset)
            while left:
                if not (read := file.read(min(left, READ_BYTES))):
                    raise CallFailed(
                        f"{self.file.name} has become shorter while it was sent: upload it again"
                    )
                left -= len(read)
                yield read


def readable(size: float) -> str:
    """A number of bytes as people say it."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {UNITS[unit]}" if unit else f"{size:.0f} {UNITS[0]}"
