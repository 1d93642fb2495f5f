"""The postman: one POST to one address that was looked at a moment before.

The name is resolved once; every address it has must be one where messages may go; the connection goes to
exactly that address, with the Host header and the TLS name of the URL. Redirects are not followed, the
environment's proxies not used, connections not kept. Of the answer so many bytes are read and no more.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from tg_workbench import __version__
from tg_workbench.errors import InvalidRequest
from tg_workbench.webhooks.addresses import Address, AddressRefused, Reach
from tg_workbench.webhooks.lookups import Lookups, NoLookup, Resolve

SECONDS = 10.0
"""How long a try may take, from the name to the last byte of the answer that is read."""
MOST_ANSWER = 2048
MOST_ADDRESSES = 3
NO_NAME = "its name does not resolve"
TOO_MANY_LOOKUPS = "too many names of your organization are being looked up"
TOO_LATE = f"no answer within {SECONDS:.0f} seconds"
_WHERE = "addresses"
"""The extension of a request that holds the addresses it may go to."""
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
    tried: bool = True
    """False: it could not be tried here, which is not the receiver's failure."""

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
        self._resolve = resolve
        self._lookups = Lookups()
        tls = tls or httpx.create_ssl_context(trust_env=False)
        self._http = httpx.AsyncClient(
            transport=_OnlyThere(tls),
            headers=_HEADERS,
            timeout=SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, tenant_id: str = "") -> Answer:
        """One try, on behalf of a tenant. Never raises for what the other side does."""
        began = time.monotonic()
        status: int | None = None
        text = problem = None
        try:
            self._reach.check_url(url)
            named = httpx.URL(url)
            resolve = self._resolve or await self._lookups.place(tenant_id, patience_seconds=SECONDS)
            async with asyncio.timeout(SECONDS):
                where = {_WHERE: await self._addresses(resolve, named)}
                async with self._http.stream(
                    "POST", named, content=body, headers=headers, extensions=where
                ) as response:
                    status = response.status_code
                    text = await _start_of(response)
        except NoLookup:
            return Answer(0.0, problem=TOO_MANY_LOOKUPS, tried=False)
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

    async def _addresses(self, resolve: Resolve, url: httpx.URL) -> list[Address]:
        """Where the host of `url` is. One address that is refused refuses them all.

        Raises AddressRefused, ConnectError.
        """
        host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await resolve(host.strip("[]"), port)
        except (OSError, UnicodeError) as failure:
            raise httpx.ConnectError(NO_NAME) from failure
        addresses = [self._reach.check_address(text) for text in found]
        if not addresses:
            raise httpx.ConnectError(NO_NAME)
        return addresses[:MOST_ADDRESSES]


class _OnlyThere(httpx.AsyncBaseTransport):
    """Connects to an address that was checked and comes with the request, and to no other.

    Connections are not kept: one to an address would be reused for another name that stands for it.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        named = request.url
        host = named.raw_host.decode("ascii")
        addresses: list[Address] = request.extensions[_WHERE]
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
