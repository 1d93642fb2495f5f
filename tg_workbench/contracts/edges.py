"""The outermost layers of the application, in plain ASGI: they see what routers never do.

From the outside in: `Edge` names the request, adds the security headers and writes one line of log;
`LastResort` turns any mistake of ours into an answer that tells nothing; `BodyLimit` stops reading in time.
"""

from __future__ import annotations

import re
import time
import uuid

import structlog
from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tg_workbench.contracts.limits import PROBES
from tg_workbench.contracts.route import REQUEST_ID
from tg_workbench.contracts.table import render
from tg_workbench.observability.logs import holds_secret, where
from tg_workbench.settings import Settings

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
SLOW_MILLISECONDS = 1000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
log = structlog.get_logger("tg_workbench.requests")


class Edge:
    """Names each request, dresses each answer, writes it down: method, route, status, time, nothing else.

    In development only what failed or was slow is written: a line costs a tenth of a request.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        headers = SECURITY_HEADERS if settings.enable_security_headers else {}
        headers = {**headers, **(HSTS if headers and settings.production else {})}
        self.app = app
        self.logs_everything = settings.production
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[REQUEST_ID] = request_id = _request_id(scope)
        began, status = time.perf_counter(), 0

        async def dress(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode()), *self.headers]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self.app(scope, receive, dress)
            took = round((time.perf_counter() - began) * 1000, 1)
            noted = self.logs_everything or status >= 400 or took > SLOW_MILLISECONDS
            if noted and scope["path"] not in PROBES:
                route = getattr(scope.get("route"), "path", None)
                log.info("request", method=scope["method"], route=route, status=status, milliseconds=took)


class LastResort:
    """What nobody expected becomes an answer without a word about what it was; the log has its place."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, and catch what comes back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception as error:
            log.error("unexpected", **where(error))
            if started:
                raise  # half an answer is out: the server has to cut the connection
            await render(Request(scope), error)(scope, receive, send)


class BodyLimit:
    """Bodies end at `most` bytes: at once when they say so themselves, else as soon as they pass it."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, counting."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self.most:
            await render(Request(scope), HTTPException(413))(scope, receive, send)
            return
        seen = 0

        async def count() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise HTTPException(413)
            return message

        await self.app(scope, count, send)


def _request_id(scope: Scope) -> str:
    """The id a caller or a proxy has given, if it is one and no secret; else a new one.

    It is in our answer and in our lines; the audit log takes fewer forms (`trail`), for it forgets nothing.
    """
    given = Headers(scope=scope).get("x-request-id", "")
    is_one = _REQUEST_ID.fullmatch(given) and not holds_secret(given)
    return given if is_one else f"req_{uuid.uuid4()}"
