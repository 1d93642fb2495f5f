"""What happens to a training client or a job, as it happens.

A stream is read again from the last event seen whenever its connection breaks, so no event is lost and none
comes twice, also when the API is restarted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.errors import WorkbenchError
from tg_workbench.sdk.connection import AWAY, Call, Connection, error_of
from tg_workbench.sdk.patience import Patience
from tg_workbench.sdk.values import PrivacyView, Value
from tg_workbench.sdk.wire import Answer, WireBroken

LONGEST_SILENCE = 40.0
"""The workbench sends a heartbeat every 15 s; after so long without one the connection is dead."""
FOREVER = float("inf")
ENDED = ("error", "terminated")
CLIENTS, JOBS = "training_clients", "jobs"
"""Whose events they are."""


@dataclass(frozen=True, slots=True)
class Event(Value):
    """One thing that happened: status, progress, operation, interrupted, checkpoint, or a job's log."""

    id: int
    type: str
    training_client_id: str = ""
    at: Any = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def privacy(self) -> PrivacyView | None:
        """The privacy that a progress event tells of."""
        told = self.data.get("privacy")
        return PrivacyView.from_wire(told) if isinstance(told, Mapping) else None


class EventStream:
    """Iterates over the events of one client or job that come after an id: those stored, then those to come.

    Ends when it has ended and everything it was asked was answered and told, or by `close()` from any thread.
    """

    def __init__(
        self,
        connection: Connection,
        client_id: str,
        after: int = 0,
        *,
        patience: float | None = None,
        of: str = CLIENTS,
    ) -> None:
        self.client_id = client_id
        self.after = after
        self._connection = connection
        self._patience = Patience(connection.patience if patience is None else patience)
        self._path = f"/workbench/v1/{of}/{client_id}/events"
        self._closed = threading.Event()
        self._open: Answer | None = None
        self._is_over = False

    def __iter__(self) -> Iterator[Event]:
        """Events in order. Raises TrainingClientNotFound, or CallFailed when nobody answers for long."""
        while not self._closed.is_set():
            failure: WorkbenchError
            try:
                yield from self._connected()
                failure = self._connection.unreachable(EOFError("the event stream broke off"))
            except WireBroken as broken:
                failure = self._connection.unreachable(broken)
            if self._is_over:
                return
            if not self._closed.is_set():
                self._patience.wait_after(failure)

    def close(self) -> None:
        """Stop, also while another thread waits for the next event."""
        self._closed.set()
        answer = self._open
        if answer is not None:
            answer.abort()

    def __enter__(self) -> EventStream:
        """For `with`: closed at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def _connected(self) -> Iterator[Event]:
        """The events of one connection, until it breaks."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}
        call = Call("GET", self._path, {"after": self.after}, None, headers, LONGEST_SILENCE)
        answer = self._open = self._connection.open(call)
        try:
            if answer.status_code != 200:
                answer.read()
                if answer.status_code in AWAY:
                    raise WireBroken(str(error_of(answer)))
                raise error_of(answer)
            for name, message in messages_in(self._chunks(answer)):
                if name == "end":
                    self._is_over = True
                    return
                event = Event.from_wire(message)
                if event.id > self.after:
                    self.after = event.id
                    yield event
                if self._closed.is_set():
                    return
        finally:
            self._open = None
            answer.close()

    def _chunks(self, answer: Answer) -> Iterator[bytes]:
        for chunk in answer.pieces():
            self._patience.restore()
            if self._closed.is_set():
                return
            yield chunk


class Subscription:
    """Hands each event of a client to a callback, from a thread of its own, until it is closed.

    It outlives restarts of the API. A callback that raises ends it: the traceback goes where those of
    threads go.
    """

    def __init__(self, stream: EventStream, callback: Callable[[Event], object]) -> None:
        self._stream = stream
        self._callback = callback
        self.error: WorkbenchError | None = None
        """Why it ended by itself, such as Unauthenticated; None while it runs or after `close()`."""
        self._thread = threading.Thread(
            target=self._run, name=f"tg-events-{stream.client_id[:11]}", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether events still come."""
        return self._thread.is_alive()

    @property
    def last_event_id(self) -> int:
        """The newest event the callback was given; subscribe with `after=` it to go on from there."""
        return self._stream.after

    def close(self, timeout: float = 2.0) -> None:
        """Unsubscribe. Once it returns, no more events come (unless a callback takes over `timeout`)."""
        self._stream.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Subscription:
        """For `with`: closed at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unsubscribe."""
        self.close()

    def _run(self) -> None:
        events = iter(self._stream)
        while (event := self._next(events)) is not None:
            self._callback(event)

    def _next(self, events: Iterator[Event]) -> Event | None:
        try:
            return next(events, None)
        except WorkbenchError as failure:
            self.error = failure
            return None


def messages_in(chunks: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and JSON of each complete server-sent event; one that was cut off is dropped and comes again."""
    rest, name, data = b"", "", []
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.rstrip(b"\r")
            if text.startswith(b"data:"):
                data.append(text[5:].strip())
            elif text.startswith(b"event:"):
                name = text[6:].strip().decode("utf-8", "replace")
            elif not text:
                if data:
                    yield name, json.loads(b"\n".join(data))
                name, data = "", []
