"""The SDK over https, against a real TLS server with a certificate of its own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.self_signed import certificate
from tg_workbench.errors import CallFailed
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.connection import Connection

HOST = "127.0.0.1"


class Fine(BaseHTTPRequestHandler):
    """Answers everything, and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.peers.add(self.client_address)  # type: ignore[attr-defined]
        body = b'{"fine": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    cert, key = certificate(tmp_path, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    made = ThreadingHTTPServer((HOST, 0), Fine)
    made.peers = set()  # type: ignore[attr-defined]
    made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_calls_share_one_encrypted_connection(server: ThreadingHTTPServer) -> None:
    connection = Connection(Address(f"https://{HOST}:{server.server_port}"), patience=2.0)
    for _ in range(3):
        assert connection.get("/live") == {"fine": True}
    connection.close()
    assert len(server.peers) == 1  # type: ignore[attr-defined]


def test_a_certificate_that_nobody_vouches_for_is_refused(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate(tmp_path / "other", HOST)[0]))
    connection = Connection(Address(f"https://{HOST}:{server.server_port}"), patience=0.1)
    with pytest.raises(CallFailed, match="CERTIFICATE_VERIFY_FAILED"):
        connection.get("/live")
    connection.close()
