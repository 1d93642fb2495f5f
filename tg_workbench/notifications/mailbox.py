"""The mailbox: one SMTP server, to which e-mail is handed over.

The connection is encrypted and the server's certificate checked, or nothing is sent; only a server on this
machine may be spoken to in the open. The password is in no text that this gives away.
"""

from __future__ import annotations

import ipaddress
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

PATIENCE_SECONDS = 20.0
_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where e-mail is handed over, and from whom it is."""

    host: str
    port: int
    sender: str
    encrypted: bool
    """From the first byte on; otherwise from STARTTLS on."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, sender: str) -> Mailbox:
        """The one that settings name."""
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        user, password = (
            None if text is None else unquote(text) for text in (parts.username, parts.password)
        )
        return cls(parts.hostname or "", port, sender, parts.scheme == "smtps", user, password)

    def send(self, messages: Sequence[EmailMessage]) -> list[str | None]:
        """Hand over each; what was wrong with it, or None. The server's own words are not among it.

        It blocks: for a thread.
        """
        problems: list[str | None] = []
        try:
            with self._open() as server:
                for message in messages:
                    problems.append(_handed_over(server, message))
        except (smtplib.SMTPException, OSError) as failure:  # ssl.SSLError is one
            problems += [_name_of(failure)] * (len(messages) - len(problems))
        return problems

    @contextmanager
    def _open(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context()
        if self.encrypted:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=PATIENCE_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=PATIENCE_SECONDS)
        with server:
            if not self.encrypted and not _is_here(self.host):
                server.starttls(context=context)  # raises where the server has none
            if self.user is not None and self.password is not None:
                server.login(self.user, self.password)
            yield server


def _handed_over(server: smtplib.SMTP, message: EmailMessage) -> str | None:
    """What is wrong with one message is no reason to leave the others. Raises when the connection is gone."""
    try:
        server.send_message(message)
    except smtplib.SMTPServerDisconnected:
        raise
    except smtplib.SMTPException as failure:
        return _name_of(failure)
    return None


def _name_of(failure: Exception) -> str:
    """A server may repeat what it was told; its number says enough."""
    code = getattr(failure, "smtp_code", None)
    return type(failure).__name__ + (f" {code}" if code is not None else "")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
