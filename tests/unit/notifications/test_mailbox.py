"""E-mail goes out encrypted or not at all, and never gives the password away."""

from __future__ import annotations

import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.mail_server import MailServer
from tests.self_signed import certificate
from tg_workbench.errors import InvalidSetting
from tg_workbench.notifications.mailbox import Mailbox
from tg_workbench.settings import Settings

ELSEWHERE = "0.0.0.0"  # noqa: S104  (reaches this machine, and is no loopback address)
PASSWORD = "p%40ss%2Fword"


def message() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "workbench@example.org", "alice@example.org", "hello"
    made.set_content("it is done")
    return made


def mailbox(url: str) -> Mailbox:
    return Mailbox.of(url, "workbench@example.org")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's certificate lies."""
    return tmp_path_factory.mktemp("certificate")


@pytest.fixture(scope="module")
def context(folder: Path) -> ssl.SSLContext:
    """A server's, with a certificate of its own for `ELSEWHERE`."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    found.load_cert_chain(*certificate(folder, ELSEWHERE))
    return found


@pytest.fixture
def trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is believed on this machine."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))


def test_a_server_on_this_machine_is_spoken_to_in_the_open() -> None:
    with MailServer() as server:
        sent = mailbox(f"smtp://me:{PASSWORD}@127.0.0.1:{server.port}").send([message(), message()])
        assert sent == [None, None]
        assert [one["Subject"] for one in server.messages] == ["hello", "hello"]
        assert server.logins == [(b"me", b"p@ss/word")]


def test_a_server_elsewhere_that_does_not_encrypt_gets_nothing() -> None:
    with MailServer(ELSEWHERE) as server:
        sent = mailbox(f"smtp://me:{PASSWORD}@{ELSEWHERE}:{server.port}").send([message(), message()])
        assert sent == ["SMTPNotSupportedError"] * 2
        assert (server.messages, server.logins) == ([], [])


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_server_elsewhere_is_spoken_to_encrypted(context: ssl.SSLContext, scheme: str) -> None:
    with MailServer(ELSEWHERE, context=context, tls_first=scheme == "smtps") as server:
        assert mailbox(f"{scheme}://me:{PASSWORD}@{ELSEWHERE}:{server.port}").send([message()]) == [None]
        assert server.was_encrypted == [True]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_certificate_nobody_knows_is_refused(context: ssl.SSLContext, scheme: str) -> None:
    with MailServer(ELSEWHERE, context=context, tls_first=scheme == "smtps") as server:
        sent = mailbox(f"{scheme}://me:{PASSWORD}@{ELSEWHERE}:{server.port}").send([message()])
        assert sent == ["SSLCertVerificationError"]
        assert server.messages == []


def test_one_message_that_is_refused_leaves_the_others() -> None:
    with MailServer() as server:
        server.replies = ["554 no"]
        sent = mailbox(f"smtp://127.0.0.1:{server.port}").send([message(), message()])
        assert sent == ["SMTPDataError 554", None]


def test_a_password_is_in_no_text() -> None:
    url = "smtps://me:hush-hush@mail.example:465"
    settings = Settings.from_environment({"TG_SMTP_URL": url, "TG_SMTP_FROM": "a@example.org"})
    assert "hush" not in repr(settings)
    assert "hush" not in repr(mailbox(url))
    assert "hush" not in str(mailbox("smtp://me:hush-hush@127.0.0.1:1").send([message()]))


@pytest.mark.parametrize(
    "url",
    [
        "smtp://",
        "http://mail.example",
        "smtp://me@mail.example",
        "smtp://mail:99999",
        "smtp://mail/x?y",
        "smtp://[::",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidSetting, match="TG_SMTP_URL is 'set'"):
        Settings.from_environment({"TG_SMTP_URL": url, "TG_SMTP_FROM": "a@example.org"})


def test_a_server_without_a_sender_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="TG_SMTP_FROM"):
        Settings.from_environment({"TG_SMTP_URL": "smtp://mail.example"})
