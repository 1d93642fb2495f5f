"""The way to the API: its socket, the local key, and how a request is put to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from tornado.httputil import HTTPServerRequest
from yarl import URL

from tg_server_extension.crossing import request_headers

HEADER_BYTES = 64 * 1024
WEBSOCKET_BYTES = 16 * 1024 * 1024
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(slots=True)
class Api:
    """Where the API is and as whom it is asked.

    **Why** one connection per request: a kept one may have died with its child, and a POST on it could not be
    told from one that took effect. On a Unix socket a new one costs next to nothing.
    """

    socket: Path
    key: str
    prefix: str
    """The path under which Jupyter serves the API, with a slash at both ends."""
    largest_body: int
    """Longer request bodies are refused at the door."""
    relays: set[asyncio.Task[None]] = field(default_factory=set)
    """The requests on their way, so that they can be ended before the API is."""
    _session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP client, made at its first use because it belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.socket), force_close=True, limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=AUTOMATIC,
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
            )
        return self._session

    def address(self, target: str) -> URL:
        """The URL of a target, taken as it is."""
        return URL(f"http://workbench{target}", encoded=True)

    def headers(self, request: HTTPServerRequest, *, jupyter_tokens: set[str]) -> list[tuple[str, str]]:
        """The request's headers for the API, and where the request came from."""
        carried = request_headers(request.headers, jupyter_tokens=jupyter_tokens, api_key=self.key)
        return [*carried, *self._hop(request)]

    def _hop(self, request: HTTPServerRequest) -> list[tuple[str, str]]:
        return [
            # Not "close": told so, the API would cut off a caller that still sends when it has its answer.
            ("Connection", "keep-alive"),
            ("Host", request.host),
            ("X-Forwarded-For", request.remote_ip or ""),
            ("X-Forwarded-Host", request.host),
            ("X-Forwarded-Prefix", self.prefix.rstrip("/")),
            ("X-Forwarded-Proto", request.protocol),
        ]

    async def close(self) -> None:
        """End every request on its way, then the client."""
        for relay in self.relays:
            relay.cancel()
        await asyncio.gather(*self.relays, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
