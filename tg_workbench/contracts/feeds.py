"""Live feeds: what has happened to a training client, and what happens next, as server-sent events.

Events are read from the log by id, so a reader that was away takes up where it left off and misses nothing.
A comment keeps the connection open when nothing happens; the feed ends when the server is asked to stop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.tg_tinker.views import message_of
from tg_workbench.events import EventRow, Events

HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 0.5
PAGE = 200
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def feed(premises: Premises, client_id: str, after: int) -> StreamingResponse:
    """The feed of a client that is known to be the caller's."""
    return StreamingResponse(_events(premises, client_id, after), 200, HEADERS, "text/event-stream")


async def _events(premises: Premises, client_id: str, after: int) -> AsyncIterator[bytes]:
    sent = time.monotonic()
    yield b": open\n\n"
    with premises.bells.listening(client_id) as rung:
        while not premises.stopping.is_set():
            rung.clear()
            with premises.database.read() as session:
                rows = Events(session).after(client_id, after, PAGE)
            if rows:
                after, sent = rows[-1].id or after, time.monotonic()
                yield b"".join(_as_event(row) for row in rows)
            elif time.monotonic() - sent > HEARTBEAT_SECONDS:
                sent = time.monotonic()
                yield KEEPALIVE_COMMENT
            if len(rows) < PAGE:
                await premises.bells.heard(rung, LOOK_SECONDS)


def _as_event(row: EventRow) -> bytes:
    data = to_json(message_of(row), inf_nan_mode="null").decode()
    return format_sse_event(data_str=data, event=row.type, id=str(row.id))
