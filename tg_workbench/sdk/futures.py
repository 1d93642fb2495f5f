"""A future: an operation the workbench has accepted, and its answer once there is one.

Futures live in the workbench, not here: they survive this kernel and a restart of the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, TypeVar

from tg_workbench.errors import DeadlineExceeded, OperationCancelled, WorkbenchError
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.wire_errors import error_from

T = TypeVar("T")
FINISHED = ("completed", "failed", "cancelled")
LONGEST_WAIT = 40.0
AWAITED_WAIT = 5.0
"""Shorter, for a cancelled `await` leaves its thread behind for so long."""


class Future(Generic[T]):
    """The answer to come of one operation. `future.result()` or `await future`."""

    def __init__(
        self, connection: Connection, record: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]
    ) -> None:
        self._connection = connection
        self._record = record
        self._read = read
        self.was_awaited = False
        """Whether somebody has blocked for its end."""

    @property
    def id(self) -> str:
        """Its id in the workbench."""
        return str(self._record["future_id"])

    @property
    def operation(self) -> str:
        """What was asked for, such as `optim_step`."""
        return str(self._record.get("operation", ""))

    @property
    def status(self) -> str:
        """pending, running, completed, failed or cancelled: asked now, unless it is final."""
        return str(self._poll(0.0)["status"])

    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self.status in FINISHED

    def result(self, timeout: float | None = None) -> T:
        """Wait for the answer.

        Raises what the operation failed with, OperationCancelled, or DeadlineExceeded after `timeout` seconds
        (the operation goes on; ask again).
        """
        self.was_awaited = True
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
            if self._poll(max(0.0, min(left, LONGEST_WAIT)))["status"] in FINISHED:
                return self._outcome()
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(self.id)

    def exception(self, timeout: float | None = None) -> WorkbenchError | None:
        """Wait for it to end; what it failed with, or None. Raises DeadlineExceeded."""
        try:
            self.result(timeout)
        except DeadlineExceeded:
            raise
        except WorkbenchError as failure:
            return failure
        return None

    def cancel(self) -> bool:
        """Cancel it if it has not begun; False when it is too late."""
        answer = self._connection.post(f"/api/v1/futures/{self.id}/cancel")
        return bool(answer.get("success"))

    def __await__(self) -> Generator[Any, None, T]:
        """Wait without holding up the event loop. Raises what `result` does."""
        return self._settled().__await__()

    async def _settled(self) -> T:
        while self._record["status"] not in FINISHED:
            await self._connection.off_loop(lambda: self._poll(AWAITED_WAIT))
        return self._outcome()

    def _poll(self, wait: float) -> Mapping[str, Any]:
        if self._record["status"] not in FINISHED:
            self._record = self._connection.get(f"/api/v1/futures/{self.id}", wait=wait)
        return self._record

    def _outcome(self) -> T:
        record = self._record
        if record["status"] == "completed":
            return self._read(record.get("result") or {})
        if record["status"] == "cancelled" and not record.get("error"):
            raise OperationCancelled
        raise error_from(record.get("error"))

    def __repr__(self) -> str:
        """What it is and where it last stood; asks nobody."""
        return f"<Future {self.operation} {self._record['status']} {self.id}>"
