"""A real SMTP server on this machine, and what it was handed."""

from __future__ import annotations

import email
import ssl
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.ports import free_port


class MailServer:
    """Takes every message, unless `replies` holds what to answer first. A context manager."""

    def __init__(
        self, host: str = "127.0.0.1", *, context: ssl.SSLContext | None = None, tls_first: bool = False
    ) -> None:
        self._tls_first = tls_first
        self.messages: list[EmailMessage] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.replies: list[str] = []
        self.was_encrypted: list[bool] = []
        more: dict[str, Any] = {"ssl_context" if tls_first else "tls_context": context} if context else {}
        self._controller = Controller(
            self,
            hostname=host,
            port=free_port(),
            authenticator=self._authenticate,
            auth_require_tls=False,
            **more,
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep it, or refuse it."""
        if self.replies:
            return self.replies.pop(0)
        self.was_encrypted.append(self._tls_first or session.ssl is not None)
        message = email.message_from_bytes(envelope.original_content or b"", policy=default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._controller.port)

    def until(self, wanted: Callable[[list[EmailMessage]], bool], seconds: float = 20) -> list[EmailMessage]:
        """What it was handed, once it is as wanted."""
        deadline = time.monotonic() + seconds
        while not wanted(self.messages):
            assert time.monotonic() < deadline, f"{len(self.messages)} messages came"
            time.sleep(0.05)
        return self.messages

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._controller.stop()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"p@ss/word", handled=False)
