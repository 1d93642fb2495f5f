"""The outermost layers of the application, in plain ASGI: they see what routers never do.

From the outside in: `Heads` has HEAD answered where a file could be got; `Edge` names the request, adds the
security headers and writes one line of log; `LastResort` turns any mistake of ours into an answer that tells
nothing; `BodyLimit` stops reading in time.
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
from tg_workbench.contracts.route import PRINCIPAL, REQUEST_ID
from tg_workbench.contracts.table import render
from tg_workbench.observability.allowance import Allowance
from tg_workbench.observability.logs import where
from tg_workbench.settings import Settings

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
SLOW_MILLISECONDS = 1000
_REQUEST_ID = re.compile(r"(?:req_)?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
"""A UUID, or one as we write it: what a caller sends is written into logs, and might be anything else."""
_FOR_FILES = re.compile(
    r"POST (?:/api/v1/datasets|/datasets/upload|/api/datasets/validate|/workbench/v1/datasets/files)"
    r"|POST /api/v1/fl/rounds/[^/]+/submit"
    r"|PATCH /workbench/v1/(?:federation/rounds/[^/]+/)?uploads/[^/]+"
)
"""Where files arrive."""
FILE_TYPES = ("multipart/form-data", "application/octet-stream")
_SHOWN_TO_HEAD = re.compile(
    r"/api/v1/datasets/[^/]+/download|/workbench/v1/datasets/[^/]+/download"
    r"|/workbench/v1/(?:federation/rounds/[^/]+/)?uploads/[^/]+"
)
ASKED_BY_HEAD = "tg_asked_by_head"
"""Where a request's scope says that it was HEAD."""
log = structlog.get_logger("tg_workbench.requests")


class Heads:
    """HEAD is GET without the body, where a caller has reason to ask. Elsewhere it is told 405, as before."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on; the server itself, which knows that it was HEAD, sends no body."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and _SHOWN_TO_HEAD.fullmatch(scope["path"]):
            scope = {**scope, "method": "GET", ASKED_BY_HEAD: True}
        await self.app(scope, receive, send)


class Edge:
    """Names each request, dresses each answer, writes it down: method, route, status, time, nothing else.

    In development only what failed or was slow is written: a line costs a tenth of a request. In production
    strangers have room for so many lines a minute.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        headers = SECURITY_HEADERS if settings.enable_security_headers else {}
        headers = {**headers, **(HSTS if headers and settings.production else {})}
        self.app = app
        self.logs_everything = settings.production
        self.strangers = Allowance() if settings.production else None
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
            if noted and scope["path"] not in PROBES and self._has_room(scope):
                route = getattr(scope.get("route"), "path", None)
                log.info("request", method=scope["method"], route=route, status=status, milliseconds=took)

    def _has_room(self, scope: Scope) -> bool:
        """Whether the log has room for this request: always, when it is known who sent it."""
        if PRINCIPAL in scope or self.strangers is None:
            return True
        has_room, left_out = self.strangers.take()
        if left_out:
            log.warning("requests of strangers are not in the log", count=left_out)
        return has_room


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
    """Bodies end at `most` bytes: at once when they say so themselves, else as soon as they pass it.

    Those that bring a file, where files arrive, end at `most_of_files`.
    """

    def __init__(self, app: ASGIApp, most: int, most_of_files: int) -> None:
        self.app = app
        self.most = most
        self.most_of_files = most_of_files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, counting."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        most = self.most_of_files if _brings_file(scope, headers) else self.most
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            await render(Request(scope), HTTPException(413))(scope, receive, send)
            return
        seen = 0

        async def count() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413)
            return message

        await self.app(scope, count, send)


def _brings_file(scope: Scope, headers: Headers) -> bool:
    """Whether a request brings a file to where files arrive."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in FILE_TYPES and _FOR_FILES.fullmatch(f"{scope['method']} {scope['path']}") is not None


def _request_id(scope: Scope) -> str:
    """The id a caller or a proxy has given, if it is a UUID; else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4()}"
