"""The postman: one POST to one address that was looked at a moment before.

The name is resolved once; every address it has must be one where messages may go; the connection goes to
exactly that address, with the Host header and the TLS name of the URL. Redirects are not followed, the
environment's proxies not used, connections not kept. Of the answer so many bytes are read and no more.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from tg_workbench import __version__
from tg_workbench.errors import InvalidRequest
from tg_workbench.webhooks.addresses import Address, AddressRefused, Reach

SECONDS = 10.0
"""How long a try may take, from the name to the last byte of the answer that is read."""
MOST_ANSWER = 2048
MOST_ADDRESSES = 3
MOST_LOOKUPS = 32
NO_NAME = "its name does not resolve"
TOO_LATE = f"no answer within {SECONDS:.0f} seconds"
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"tg-workbench/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status and the start of a body, or the reason why nothing did."""

    milliseconds: float
    status: int | None = None
    text: str | None = None
    problem: str | None = None

    @property
    def good(self) -> bool:
        """Whether the receiver has taken the message."""
        return self.status is not None and 200 <= self.status < 300


class Postman:
    """Carries messages out. `resolve` and `tls` are replaced only where there is no internet."""

    def __init__(
        self, reach: Reach, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._reach = reach
        self._lookups = ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="webhook-lookup")
        tls = tls or httpx.create_ssl_context(trust_env=False)
        self._http = httpx.AsyncClient(
            transport=_OnlyThere(reach, resolve or self._resolve, tls),
            headers=_HEADERS,
            timeout=SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One try. Never raises for what the other side does."""
        began = time.monotonic()
        status: int | None = None
        text = problem = None
        try:
            self._reach.check_url(url)
            async with (
                asyncio.timeout(SECONDS),
                self._http.stream("POST", url, content=body, headers=headers) as response,
            ):
                status = response.status_code
                text = await _start_of(response)
        except TimeoutError:
            problem = TOO_LATE
        except (AddressRefused, InvalidRequest) as failure:
            problem = str(failure)
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            problem = _why(failure)
        return Answer(round((time.monotonic() - began) * 1000, 1), status, text, problem)

    async def close(self) -> None:
        """Let go of everything."""
        await self._http.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str, port: int) -> list[str]:
        """Threads of their own: a name server that hangs keeps nobody else's threads."""

        def look_up() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(entry[4][0]) for entry in found))

        return await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)


class _OnlyThere(httpx.AsyncBaseTransport):
    """Connects to the address that was checked, and to no other.

    Connections are not kept: one to an address would be reused for another name that stands for it.
    """

    def __init__(self, reach: Reach, resolve: Resolve, tls: ssl.SSLContext) -> None:
        self._reach = reach
        self._resolve = resolve
        limits = httpx.Limits(max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        named = request.url
        host = named.raw_host.decode("ascii")
        addresses = await self._addresses(host, named.port or (443 if named.scheme == "https" else 80))
        if not _same(host, addresses):
            request.extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            request.url = named.copy_with(host=str(address))
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent: the next address is asked
        request.url = named.copy_with(host=str(addresses[-1]))
        return await self._transport.handle_async_request(request)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Where `host` is. One address that is refused refuses them all.

        Raises AddressRefused, ConnectError.
        """
        try:
            found = await self._resolve(host.strip("[]"), port)
        except (OSError, UnicodeError) as failure:
            raise httpx.ConnectError(NO_NAME) from failure
        addresses = [self._reach.check_address(text) for text in found]
        if not addresses:
            raise httpx.ConnectError(NO_NAME)
        return addresses[:MOST_ADDRESSES]

    async def aclose(self) -> None:
        """Let go of everything."""
        await self._transport.aclose()


def _same(host: str, addresses: list[Address]) -> bool:
    """Whether the URL names the address itself, so that there is no name to tell."""
    return host.strip("[]") == str(addresses[0])


async def _start_of(response: httpx.Response) -> str:
    """The first bytes of an answer as text, as they came: nothing is unpacked."""
    start = b""
    async for chunk in response.aiter_raw():
        start += chunk[: MOST_ANSWER - len(start)]
        if len(start) >= MOST_ANSWER:
            break
    return start.decode("utf-8", "replace").replace("\0", "")


def _why(failure: Exception) -> str:
    """In our own words: the library's may hold addresses."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "its TLS certificate could not be verified, or it does not speak TLS"
        cause = cause.__cause__ or cause.__context__
    if str(failure) == NO_NAME:
        return NO_NAME
    if isinstance(failure, httpx.TimeoutException):
        return TOO_LATE
    return "it could not be connected to" if isinstance(failure, httpx.ConnectError) else "it broke off"
