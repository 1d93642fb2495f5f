"""Proxies: for whom those that are trusted pass a request on, as X-Forwarded-For says.

What comes by a Unix socket has no address: it is this machine's own user's. Where `unix` is among the
trusted, whoever reaches the socket passes requests on for others, and says for whom.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tg_workbench.contracts.limits import is_unix
from tg_workbench.settings import UNIX


class Proxies:
    """uvicorn's own reading of the header, for Unix sockets too."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self.app = app
        self.unix = UNIX in trusted
        self.forwarded = ProxyHeadersMiddleware(self._unnamed, list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, with the address of whom it is for."""
        if self.unix and scope["type"] != "lifespan" and scope.get("client") is None and is_unix(scope):
            scope["client"] = (UNIX, 0)
        await self.forwarded(scope, receive, send)  # type: ignore[arg-type]

    async def _unnamed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nobody was named: it is the local user's after all."""
        if (scope.get("client") or ("",))[0] == UNIX:
            scope["client"] = None
        await self.app(scope, receive, send)
