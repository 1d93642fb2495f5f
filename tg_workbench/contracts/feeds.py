"""Live feeds: what has happened to a training client or a job, and what happens next, as server-sent events.

Events are read from the log by id, so a reader that was away takes up where it left off and misses nothing.
A comment keeps the connection open when nothing happens. The feed ends with an event `end` when nothing can
happen any more: the client has ended and everything it was asked is answered. It breaks off when the server
is asked to stop, and when the credential it was opened with is not good any more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tg_workbench.contracts.premises import premises_of
from tg_workbench.contracts.tg_tinker.views import message_of
from tg_workbench.contracts.visitors import principal_of
from tg_workbench.errors import DatabaseUnavailable, WorkbenchError
from tg_workbench.events import EventRow, Events
from tg_workbench.training import TrainingClients

HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 0.5
WELCOME_SECONDS = 5.0
"""How often the credential is looked at again: a revoked one hears no more after so long."""
PAGE = 200
END = format_sse_event(data_str="{}", event="end")
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Followed:
    """What a feed is about: how each event is shown (b"" if it is not), and when nothing more can come."""

    subject: str
    shown: Callable[[EventRow], bytes]
    is_over: Callable[[Session], bool]
    end: bytes = b""


def feed(request: Request, client_id: str, after: int) -> StreamingResponse:
    """The feed of a client that is known to be the caller's."""
    folder = premises_of(request).folder
    followed = Followed(
        client_id,
        as_event,
        lambda session: TrainingClients(session, folder).is_over(client_id),
        END,
    )
    return follow(request, followed, after)


def follow(request: Request, followed: Followed, after: int) -> StreamingResponse:
    """The feed of what is known to be the caller's."""
    return StreamingResponse(_events(request, followed, after), 200, HEADERS, "text/event-stream")


async def _events(request: Request, followed: Followed, after: int) -> AsyncIterator[bytes]:
    premises = premises_of(request)
    sent = asked = time.monotonic()
    yield b": open\n\n"
    with premises.bells.listening(followed.subject) as rung:
        while not premises.stopping.is_set():
            rung.clear()
            if time.monotonic() - asked > WELCOME_SECONDS:
                asked = time.monotonic()
                if not _is_welcome(request):
                    return
            with premises.database.read() as session:
                rows = Events(session).after(followed.subject, after, PAGE)
                is_over = not rows and followed.is_over(session)
            if rows:
                after = rows[-1].id or after
            if shown := b"".join(followed.shown(row) for row in rows):
                sent = time.monotonic()
                yield shown
            elif is_over:
                if followed.end:
                    yield followed.end
                return
            elif time.monotonic() - sent > HEARTBEAT_SECONDS:
                sent = time.monotonic()
                yield KEEPALIVE_COMMENT
            if len(rows) < PAGE:
                await premises.bells.heard(rung, LOOK_SECONDS)


def _is_welcome(request: Request) -> bool:
    """Whether the credential still opens this door. A database that is away is no reason to hang up."""
    try:
        principal_of(request, "read")
    except DatabaseUnavailable:
        return True
    except WorkbenchError:
        return False
    return True


def as_event(row: EventRow) -> bytes:
    """An event as our own feeds show it."""
    data = to_json(message_of(row), inf_nan_mode="null").decode()
    return format_sse_event(data_str=data, event=row.type, id=str(row.id))
