"""The streaming proxy: bytes go through as they come, in both directions, at the pace of the slower side.

Nothing is buffered but a few pieces. When the caller leaves, the API is told by its connection; when the API
breaks off, the caller's connection breaks too, so that no half answer looks whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, cast

import aiohttp
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, stream_request_body

from tg_server_extension.api import Api
from tg_server_extension.body import Body
from tg_server_extension.crossing import framing_fault, location, response_headers
from tg_server_extension.guard import SAFE_METHODS, Guarded
from tg_server_extension.problem import Problem, refused

MOST_TRIES = 3
LINGER_SECONDS = 10.0
INTERRUPTED = (
    "the TG Workbench API was interrupted in the middle of this request, which may or may not have taken "
    "effect; look before you repeat it (with an Idempotency-Key it is repeated for you)"
)
STOPPING = "the TG Workbench API is stopping, because Jupyter is; start Jupyter again"


@stream_request_body
class ProxyHandler(Guarded):
    """One HTTP request on its way to the API, and the answer on its way back."""

    _auto_finish = False  # an answer that was cut off must not be finished as if it were whole

    def initialize(self, api: Api) -> None:
        """Nothing has come yet and nothing is running."""
        super().initialize(api)
        self._body = Body()
        self._received = asyncio.Event()
        self._received_bytes = 0
        self._relay: asyncio.Task[None] | None = None

    async def prepare(self, **_: Any) -> None:
        """When the headers have come: begin to relay, or refuse."""
        self._transforms = []  # the API's bytes are not ours to compress
        self._connection = cast(HTTP1Connection, self.request.connection)
        self._connection.set_max_body_size(2**63)  # the limit is ours, below
        if fault := framing_fault(self.request.headers):
            # Tornado would read on and serve what follows; with this it closes the connection.
            self.request.headers["Transfer-Encoding"] = "refused"
            self.set_header("Connection", "close")
            raise HTTPError(400, fault)
        try:
            await super().prepare()
            if not self.check_origin():
                raise HTTPError(404)
            self._run(self._forward())
        except HTTPError as refusal:
            self._run(self._refuse(refused(refusal.status_code, refusal.log_message)))

    async def data_received(self, chunk: bytes) -> None:
        """Hand a piece of the body on; waits while the API is slow, which makes the caller wait."""
        self._received_bytes += len(chunk)
        if self._received_bytes > self.api.largest_body and not self._body.is_closed:
            await self._stop_relay()
            self._run(self._refuse(self._too_large))
        await self._body.feed(chunk)

    async def _conclude(self, *_: str) -> None:
        """When the whole body has come: wait until the answer has gone."""
        self._received.set()
        await self._body.end()
        if self._relay is None:
            return
        await asyncio.wait({self._relay})
        if self._relay.cancelled() or self._headers_written:
            if not self._finished:
                self._connection.close()
        else:
            self._relay.result()  # raises what was never meant to happen

    get = head = post = put = patch = delete = options = _conclude

    def on_connection_close(self) -> None:
        """When the caller leaves: leave too."""
        super().on_connection_close()
        if self._relay is not None:
            self._relay.cancel()

    def _run(self, relay: Coroutine[Any, Any, None]) -> None:
        self._relay = asyncio.create_task(relay)
        self.api.relays.add(self._relay)
        self._relay.add_done_callback(self.api.relays.discard)

    async def _stop_relay(self) -> None:
        if self._relay is not None:
            self._relay.cancel()
            await asyncio.wait({self._relay})

    # ------------------------------------------------------------------------------- there
    async def _forward(self) -> None:
        try:
            if int(self.request.headers.get("Content-Length", "0")) > self.api.largest_body:
                return await self._refuse(self._too_large)
            response = await self._ask()
            try:
                await self._answer(response)
            finally:
                response.close()
        except StreamClosedError:
            pass  # the caller left
        except HTTPError as refusal:
            await self._refuse(refused(refusal.status_code, refusal.log_message))
        except aiohttp.ClientConnectorError:
            await self._refuse(Problem(503, "SERVICE_UNAVAILABLE", STOPPING))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.log.warning("The TG Workbench API broke off an answer: %r", error)
            await self._refuse(Problem(502, "INTERRUPTED", INTERRUPTED))
        finally:
            self._body.close()

    async def _ask(self) -> aiohttp.ClientResponse:
        """Put the request to the API; again, if it dies before it answers and repeating does no harm."""
        address = self.api.address(self.target)
        headers = self.api.headers(self.request, jupyter_tokens=self.jupyter_tokens)
        length = self.request.headers.get("Content-Length")
        if length is not None:
            headers.append(("Content-Length", length))
        has_body = length not in (None, "0") or "Transfer-Encoding" in self.request.headers
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            body = self._body.read() if has_body else None
            try:
                return await self.api.session.request(
                    self.request.method, address, headers=headers, data=body, allow_redirects=False
                )
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not tries_left or not self._may_be_repeated:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    @property
    def _may_be_repeated(self) -> bool:
        harmless = self.request.method in SAFE_METHODS or "Idempotency-Key" in self.request.headers
        return harmless and self._body.may_be_read_again

    # ------------------------------------------------------------------------------- and back
    async def _answer(self, response: aiohttp.ClientResponse) -> None:
        self._copy_head(response)
        self.write(response.content.read_nowait(-1))  # what came with the headers leaves with them
        await self.flush()
        async for piece in response.content.iter_any():
            self.write(piece)
            await self.flush()
        await self._send_off()

    def _copy_head(self, response: aiohttp.ClientResponse) -> None:
        self.set_status(response.status)
        for name in ("Content-Type", "Server"):
            self.clear_header(name)
        seen: set[str] = set()
        for name, value in response_headers(response.headers.items()):
            if name.lower() == "location":
                value = location(value, host=self.request.host, prefix=self.api.prefix)
            put = self.add_header if name.lower() in seen else self.set_header
            put(name, value)
            seen.add(name.lower())
        if response.content_type == "text/html":
            _ = self.xsrf_token  # sets the cookie with which the page proves that it may write
        if not self._received.is_set():
            self.set_header("Connection", "close")

    async def _refuse(self, problem: Problem) -> None:
        """Answer with a problem; if an answer is on its way already, cut it off instead."""
        self._body.close()
        if self._headers_written:
            self._connection.close()
            return
        with contextlib.suppress(StreamClosedError):
            self.write_problem(problem)
            if "Content-Length" in self.request.headers or "Transfer-Encoding" in self.request.headers:
                self.set_header("Connection", "close")
            await self.flush()
            await self._send_off()

    async def _send_off(self) -> None:
        """Finish when the whole body has come, or after a while.

        **Why.** Most callers send first and read then: closing on them while they send would cost them the
        answer.
        """
        self._body.close()
        if not self._received.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._received.wait(), LINGER_SECONDS)
        await self.finish()

    @property
    def _too_large(self) -> Problem:
        most = self.api.largest_body
        return refused(413, f"a body may have at most {most} bytes; set TG_MAX_BODY_BYTES to allow more")
