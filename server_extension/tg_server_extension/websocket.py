"""WebSockets: one to the caller, one to the API, and messages between them at the pace of the slower side."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tg_server_extension.api import WEBSOCKET_BYTES
from tg_server_extension.crossing import target_of
from tg_server_extension.guard import Guarded

GOING_AWAY = 1001
NO_CODE = 1005  # these three are said by libraries and never sent
NEVER_SENT = (NO_CODE, 1006, 1015)


class AsksForWebSocket(Matcher):
    """Matches requests under the prefix that want to become a WebSocket."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """The arguments of the handler (none), or None."""
        wanted = request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"
        return {} if wanted and target_of(request.uri or "", self._prefix) is not None else None


class WebSocketProxy(Guarded, WebSocketHandler):
    """One WebSocket, accepted only once the API has accepted its own half."""

    _upstream: aiohttp.ClientWebSocketResponse

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Ask the API, then shake hands and stay until either side closes."""
        if not self.check_origin():
            raise HTTPError(403, "this origin may not open a WebSocket here")
        self._upstream = await self._ask()
        pump = asyncio.create_task(self._to_caller())
        self.api.relays.add(pump)
        try:
            await super().get(*args, **kwargs)
        finally:
            self.api.relays.discard(pump)
            pump.cancel()
            await self._upstream.close(code=_sendable(self.close_code))

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The one that the API chose."""
        return self._upstream.protocol

    @property
    def max_message_size(self) -> int:
        """The same limit on both sides."""
        return WEBSOCKET_BYTES

    async def on_message(self, message: str | bytes) -> None:
        """Hand a message on; the next is read when it has gone."""
        with contextlib.suppress(ConnectionError):
            if isinstance(message, str):
                await self._upstream.send_str(message)
            else:
                await self._upstream.send_bytes(message)

    async def _ask(self) -> aiohttp.ClientWebSocketResponse:
        carried = self.api.headers(self.request, jupyter_tokens=self.jupyter_tokens)
        handshake = ("sec-websocket-", "connection")  # each half makes its own
        headers = [(name, value) for name, value in carried if not name.lower().startswith(handshake)]
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [name.strip() for name in offered.split(",") if name.strip()]
        try:
            return await self.api.session.ws_connect(
                self.api.address(self.target),
                headers=headers,
                protocols=protocols,
                max_msg_size=WEBSOCKET_BYTES,
            )
        except aiohttp.WSServerHandshakeError as refusal:
            raise HTTPError(refusal.status, "the API does not take a WebSocket here") from refusal
        except aiohttp.ClientError as error:
            raise HTTPError(502) from error

    async def _to_caller(self) -> None:
        try:
            async for message in self._upstream:
                binary = message.type == aiohttp.WSMsgType.BINARY
                await self.write_message(message.data, binary=binary)
            self.close(_sendable(self._upstream.close_code))
        except asyncio.CancelledError:
            self.close(GOING_AWAY)
            raise
        except WebSocketClosedError:
            pass


def _sendable(code: int | None) -> int:
    return 1000 if code is None or code in NEVER_SENT else code
