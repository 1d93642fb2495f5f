"""QFLARE's WebSockets: /ws/dashboard, /ws/training and /ws/security (S2-29), also under /api/v1.

`device_channel` has each device's own.

Whoever listens says who they are in the subprotocol `tgw.bearer.TOKEN` (with `tgw.v1` beside it, which is
chosen: a browser needs that), in a header as everywhere, or within five seconds in a first message `{"type":
"auth", "token": …}`; never in the query. Another such message later takes the place of the first, so a token
that runs out can be renewed. Refusals have two codes: 4401, not signed in, and 4403, not allowed.

Messages have the document's form, `{type, timestamp, data}`, and an `id` where an event is behind them. With
`last_event_id`, in the query or in the first message, what was missed comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import structlog
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.broadcasts import Broadcasts, Listener, missed_message, replay
from tg_workbench.contracts.limits import address_in
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.qflare.errors import timestamp
from tg_workbench.contracts.qflare.monitoring_views import SystemStatus
from tg_workbench.contracts.strict_json import parse
from tg_workbench.contracts.visitors import principal_of
from tg_workbench.errors import (
    CredentialMissing,
    DatabaseUnavailable,
    PermissionDenied,
    QuotaExceeded,
    Unauthenticated,
)
from tg_workbench.identity import Principal
from tg_workbench.observability.announcements import CHANNELS, Announcement, Channel

BEARER, SPOKEN = "tgw.bearer.", "tgw.v1"
NOT_SIGNED_IN, NOT_ALLOWED, GOING_AWAY, TRY_LATER = 4401, 4403, 1001, 1013
WELCOME_SECONDS = 5.0
"""How long somebody may take to sign in, how often the credential is looked at again, and the status told."""
LONGEST_MESSAGE = 16 << 10
LONGEST_TOKEN = 8192
LARGEST_ID = 2**63 - 1
log = structlog.get_logger("tg_workbench.channels")


def routes() -> list[BaseRoute]:
    """Each channel at its two addresses."""
    return [
        WebSocketRoute(f"{prefix}/ws/{channel}", _endpoint(channel))
        for prefix in ("", "/api/v1")
        for channel in get_args(Channel)
        if channel != "device"
    ]


def _endpoint(channel: Channel) -> Any:
    async def listen(websocket: WebSocket) -> None:
        premises: Premises = websocket.app.state.premises
        await Conversation(websocket, premises, channel).run()

    return listen


class Closed(Exception):
    """The conversation is over; `code` says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Conversation:
    """One WebSocket from its opening to its end."""

    def __init__(self, websocket: WebSocket, premises: Premises, channel: Channel) -> None:
        self.websocket = websocket
        self.premises = premises
        self.channel: Channel = channel
        self.token = _token_in(websocket.scope.get("subprotocols", ()))
        self.after = _event_id(websocket.query_params.get("last_event_id"))
        self._welcome_until = 0.0

    async def run(self) -> None:
        """From the opening to the end."""
        try:
            with self.premises.broadcasts.door(address_in(self.websocket)):
                principal = await self.open()
        except QuotaExceeded:
            refusal = Response(status_code=503, headers={"Retry-After": "5"})
            await self.websocket.send_denial_response(refusal)
            return
        if principal is not None:
            await self.go_on(principal)

    async def open(self) -> Principal | None:
        """Find out who this is; None when it is over already."""
        offered = self.websocket.scope.get("subprotocols", ())
        await self.websocket.accept(SPOKEN if SPOKEN in offered else None)
        async with self._closing():
            self._check_origin()
            return await self._sign_in_somehow()
        return None

    async def go_on(self, principal: Principal) -> None:
        """Tell and listen until either side, or the server, has had enough."""
        async with self._closing():
            await self._converse(principal)

    @contextlib.asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        """Whatever ends the conversation in here is said to the other side."""
        try:
            yield
        except Closed as end:
            if end.code in (NOT_SIGNED_IN, NOT_ALLOWED):
                self._note_refusal(end.code)
            await self._close(end.code, end.reason)
        except WebSocketDisconnect:
            return

    # ------------------------------------------------------------------------------- at the door
    def _check_origin(self) -> None:
        """A page may listen if it is ours or on the list; a program sends no origin."""
        origin, allowed = self.websocket.headers.get("origin"), self.premises.settings.allowed_origins
        here = f"{_http_scheme(self.websocket)}://{self.websocket.headers.get('host', '')}"
        if origin is not None and origin != here and origin not in allowed and "*" not in allowed:
            raise Closed(NOT_ALLOWED, "this origin may not open a WebSocket here")

    async def _sign_in_somehow(self) -> Principal:
        try:
            return self._sign_in()
        except CredentialMissing:
            pass
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WELCOME_SECONDS):
                async for message in self._messages():
                    if message.get("type") == "auth":
                        return self._sign_in_with(message)
                    break
        raise Closed(NOT_SIGNED_IN, "sign in first")

    def _sign_in_with(self, message: dict[str, Any]) -> Principal:
        token, after = message.get("token"), message.get("last_event_id")
        if not isinstance(token, str) or not token or not token.isascii() or len(token) > LONGEST_TOKEN:
            raise Closed(NOT_SIGNED_IN, "this is no token")
        if type(after) is int and 0 <= after <= LARGEST_ID:
            self.after = after
        self.token = token
        try:
            return self._sign_in()
        except CredentialMissing:
            raise Closed(NOT_SIGNED_IN, "sign in first") from None

    def identify(self) -> Principal:
        """Who this is now. Raises Unauthenticated, PermissionDenied, DatabaseUnavailable."""
        return principal_of(_as_request(self.websocket, self.token), CHANNELS[self.channel])

    def _sign_in(self) -> Principal:
        """Who this is, by the same rules as at every route. Raises Closed, CredentialMissing."""
        try:
            return self.identify()
        except CredentialMissing:
            raise
        except Unauthenticated as refusal:
            raise Closed(NOT_SIGNED_IN, str(refusal)) from None
        except PermissionDenied as refusal:
            raise Closed(NOT_ALLOWED, str(refusal)) from None
        except DatabaseUnavailable:
            raise Closed(TRY_LATER, "the database does not answer") from None

    # ------------------------------------------------------------------------------- the conversation
    async def _converse(self, principal: Principal) -> None:
        broadcasts: Broadcasts = self.premises.broadcasts
        try:
            with (
                broadcasts.listening(self.channel, principal, self.premises.database) as listener,
                self.premises.metrics.listeners.labels(self.channel).track_inprogress(),
            ):
                await self._first_of(self._tell(listener), self._hear(listener), self._stop())
        except QuotaExceeded as refusal:
            raise Closed(TRY_LATER, str(refusal)) from None
        except DatabaseUnavailable:
            raise Closed(TRY_LATER, "the database does not answer") from None

    async def _first_of(self, *parts: Any) -> None:
        """Run the parts until one ends, and end as it does."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        self._welcome_until = loop.time() + WELCOME_SECONDS
        await self._send("connected", {"channel": self.channel, "last_event_id": listener.position})
        if self.after is not None:
            for one in replay(self.premises.database, listener, self.after):
                await self.say(one, listener)
        while True:
            if self.channel == "dashboard":
                status = SystemStatus.of(self.premises, listener.principal)
                await self._send("system_status", status.model_dump())
            until = loop.time() + WELCOME_SECONDS
            while (left := until - loop.time()) > 0:
                await listener.waits(left)
                missed, waiting = listener.take()
                if missed is not None:
                    await self.say(missed_message(*missed), listener)
                for announcement in waiting:
                    await self.say(announcement, listener)
            self._still_welcome(listener)

    async def _hear(self, listener: Listener) -> None:
        async for message in self._messages():
            if message.get("type") == "auth":
                listener.principal = self._sign_in_with(message)

    async def _stop(self) -> None:
        await self.premises.stopping.wait()
        raise Closed(GOING_AWAY, "the server stops")

    def _still_welcome(self, listener: Listener) -> None:
        """Look at the credential again. A database that is away is no reason to hang up."""
        self._welcome_until = asyncio.get_running_loop().time() + WELCOME_SECONDS
        try:
            listener.principal = self.identify()
        except DatabaseUnavailable:
            return
        except Unauthenticated as refusal:
            raise Closed(NOT_SIGNED_IN, str(refusal)) from None
        except PermissionDenied as refusal:
            raise Closed(NOT_ALLOWED, str(refusal)) from None

    # ------------------------------------------------------------------------------- messages
    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        """The objects that the caller sends; what is none, or too long, is passed over."""
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005)
            text = message.get("text") or ""
            if len(text) > LONGEST_MESSAGE:
                continue
            with contextlib.suppress(json.JSONDecodeError, UnicodeEncodeError):
                value = parse(text.encode())
                if isinstance(value, dict):
                    yield value

    async def say(self, one: Announcement | dict[str, Any], listener: Listener) -> None:
        """Say it, if they may still hear it: to tell somebody slow takes longer than a welcome lasts."""
        if asyncio.get_running_loop().time() > self._welcome_until:
            self._still_welcome(listener)
        if isinstance(one, dict):
            await self._send(one["type"], one["data"])
        else:
            await self._send(one.type, one.data, id=one.id, timestamp=utc(one.at))

    async def _send(self, kind: str, data: dict[str, Any], **more: Any) -> None:
        message = {"type": kind, "timestamp": timestamp(), "data": data, **more}
        await self.websocket.send_text(to_json(message, inf_nan_mode="null").decode())

    def _note_refusal(self, code: int) -> None:
        has_room, left_out = self.premises.broadcasts.refusals.take()
        if left_out:
            log.warning("refused websockets are not in the log", count=left_out)
        if has_room:
            log.info("websocket refused", channel=self.channel, code=code)

    async def _close(self, code: int, reason: str) -> None:
        if self.websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(WebSocketDisconnect):
                await self.websocket.close(code, reason[:100])


def _token_in(subprotocols: Any) -> str | None:
    found = (name.removeprefix(BEARER) for name in subprotocols if name.startswith(BEARER))
    return next((token for token in found if 0 < len(token) <= LONGEST_TOKEN), None)


def _event_id(text: str | None) -> int | None:
    """A whole number as the query writes it; anything else is none."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    return min(int(text), LARGEST_ID)


def _http_scheme(websocket: WebSocket) -> str:
    return "https" if websocket.url.scheme == "wss" else "http"


def _as_request(websocket: WebSocket, token: str | None) -> Request:
    """What an HTTP request would have looked like, for the one who decides at every door.

    A token that came another way is the credential; those in headers, which a proxy may have added, are not.
    """
    headers = websocket.scope["headers"]
    if token is not None:
        own = (b"authorization", b"x-api-key")
        headers = [(name, value) for name, value in headers if name not in own]
        headers.append((b"authorization", b"Bearer " + token.encode("ascii")))
    scope = {**websocket.scope, "type": "http", "method": "GET", "headers": headers}
    return Request({**scope, "scheme": _http_scheme(websocket)})
