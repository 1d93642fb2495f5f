"""A real receiver of webhooks on this machine, and how a receiver checks what it got."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(frozen=True)
class Reply:
    """What the receiver answers, perhaps after a while."""

    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class WebhookReceiver:
    """Listens on a port of its own; `reply` decides on each request, counted from 1."""

    def __init__(
        self, reply: Callable[[int], Reply] = lambda _: Reply(), tls: ssl.SSLContext | None = None
    ) -> None:
        self.received: list[Received] = []
        self.paths: list[str] = []
        self.connections = 0
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.paths.append(self.path)
                receiver.received.append(Received(headers, body))
                answer = reply(len(receiver.received))
                receiver._ended.wait(answer.seconds)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def process_request(self, *arguments: Any) -> None:
                receiver.connections += 1
                super().process_request(*arguments)

            def handle_error(self, *_: Any) -> None:
                return  # a sender that hung up

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> WebhookReceiver:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def until(self, wanted: Callable[[list[Received]], bool], seconds: float = 30.0) -> list[Received]:
        """What came, once it is as wanted."""
        deadline = time.monotonic() + seconds
        while not wanted(self.received):
            assert time.monotonic() < deadline, [request.json["event"] for request in self.received]
            time.sleep(0.02)
        return list(self.received)


def verify_webhook(payload: str, signature: str, secret: str) -> bool:
    """Word for word as QFLARE's document has it."""
    computed = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={computed}", signature)


def is_genuine(request: Received, secret: str) -> bool:
    """Whether all three signatures hold: the document's in both places, and Standard Webhooks'."""
    body = request.json
    signature = body.pop("signature")
    payload = json.dumps(body, sort_keys=True, separators=(",", ":"))
    exact = request.headers["x-webhook-signature"]
    Webhook(secret).verify(request.body, request.headers)  # raises where it does not hold
    return verify_webhook(payload, signature, secret) and verify_webhook(request.body.decode(), exact, secret)
