"""The postman goes to the address that was checked, asks for little and waits for nobody long.

Only the resolver is replaced; the receivers are real.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.self_signed import certificate
from tests.unit.webhooks.conftest import NEAR
from tests.webhook_receiver import Reply, WebhookReceiver
from tg_workbench.webhooks import postman as module
from tg_workbench.webhooks.addresses import Reach
from tg_workbench.webhooks.lookups import Resolve
from tg_workbench.webhooks.postman import Answer, Postman

FAR = Reach(https_only=False)


class Names:
    """A name server that says something else each time; the last it says for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def post(
    url: str, *, reach: Reach = NEAR, names: Resolve | None = None, tls: ssl.SSLContext | None = None
) -> Answer:
    return posts([url], reach=reach, names=names, tls=tls)[0]


def posts(
    urls: Sequence[str],
    *,
    reach: Reach = NEAR,
    names: Resolve | None = None,
    tls: ssl.SSLContext | None = None,
) -> list[Answer]:
    """One after the other by the same postman."""

    async def go() -> list[Answer]:
        postman = Postman(reach, names, tls)
        try:
            return [await postman.post(url, b"{}", {"X-Webhook-Signature": "s"}) for url in urls]
        finally:
            await postman.close()

    return asyncio.run(go())


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as opened:
        yield opened


def test_it_goes_to_the_address_under_the_name_of_the_url(receiver: WebhookReceiver) -> None:
    names = Names(["127.0.0.1"])
    answer = post(f"http://hooks.example:{receiver.port}/a?b=c", names=names)
    assert (answer.good, answer.problem) == (True, None)
    assert names.asked == [("hooks.example", receiver.port)]
    (request,) = receiver.received
    assert request.headers["host"] == f"hooks.example:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.body == b"{}"


def test_tls_is_checked_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path, "127.0.0.1")  # for no name
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate_file, key_file)
    trusting = ssl.create_default_context(cafile=str(certificate_file))
    with WebhookReceiver(tls=serving) as receiver:
        by_address = post(f"https://127.0.0.1:{receiver.port}/", tls=trusting)
        by_name = post(f"https://hooks.example:{receiver.port}/", tls=trusting, names=Names(["127.0.0.1"]))
        by_stranger = post(f"https://127.0.0.1:{receiver.port}/")
    assert by_address.good
    assert "TLS" in str(by_name.problem)
    assert "TLS" in str(by_stranger.problem)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["169.254.169.254"],
        ["93.184.216.34", "127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%lo"],
        ["0.0.0.0"],  # noqa: S104 - an address to call, not to listen on
    ],
)
def test_a_name_that_stands_for_an_inner_address_is_not_called(
    receiver: WebhookReceiver, found: list[str]
) -> None:
    answer = post(f"http://hooks.example:{receiver.port}/", reach=FAR, names=Names(found))
    assert answer.problem == "its address is not a public one"
    assert receiver.connections == 0


def test_a_name_that_is_pointed_inside_later_is_not_called_again(receiver: WebhookReceiver) -> None:
    """It is looked up once a try, so what is connected to is what was checked."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    first, second = posts([f"http://hooks.example:{receiver.port}/"] * 2, names=names)
    assert first.good
    assert second.problem == "its address is not a public one"
    assert (len(names.asked), receiver.connections) == (2, 1)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"]
)
def test_loopback_is_found_however_it_is_written(receiver: WebhookReceiver, host: str) -> None:
    answer = post(f"http://{host}:{receiver.port}/", reach=FAR)
    assert "not a public one" in str(answer.problem)
    assert receiver.connections == 0


def test_redirects_are_not_followed() -> None:
    with WebhookReceiver() as inner:
        moved = Reply(307, headers={"Location": inner.url})
        with WebhookReceiver(lambda _: moved) as outer:
            answer = post(outer.url)
    assert (answer.status, answer.good) == (307, False)
    assert inner.connections == 0


def test_a_proxy_of_the_environment_is_not_used(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebhookReceiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(f"http://hooks.example:{receiver.port}/", names=Names(["127.0.0.1"])).good
    assert proxy.connections == 0


def test_connections_are_not_kept_for_another_name(receiver: WebhookReceiver) -> None:
    names = Names(["127.0.0.1"])
    urls = [f"http://{name}.example:{receiver.port}/" for name in ("a", "b", "a")]
    assert all(answer.good for answer in posts(urls, names=names))
    assert receiver.connections == 3


def test_of_a_long_answer_only_the_start_is_read() -> None:
    body = b"a\0b" + b"x" * 5_000_000
    with WebhookReceiver(lambda _: Reply(500, body)) as receiver:
        answer = post(receiver.url)
    assert answer.text == "ab" + "x" * 2045
    assert answer.status == 500


def test_a_packed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    with WebhookReceiver(lambda _: Reply(200, bomb, {"Content-Encoding": "gzip"})) as receiver:
        answer = post(receiver.url)
    assert answer.good
    assert len(str(answer.text)) <= 2048


def test_a_target_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.3)
    with WebhookReceiver(lambda _: Reply(seconds=30)) as receiver:
        answer = post(receiver.url)
    assert answer.problem == module.TOO_LATE
    assert 200 < answer.milliseconds < 5000


def test_a_target_that_answers_drop_by_drop_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ended.wait(0.05):
                try:
                    connection.sendall(b".")
                except OSError:
                    return

    threading.Thread(target=drip, daemon=True).start()
    answer = post(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    ended.set()
    listener.close()
    assert answer.problem == module.TOO_LATE
    assert answer.milliseconds < 5000


def test_what_is_not_there_is_said_in_our_own_words() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and nobody listens there
        assert post(f"http://127.0.0.1:{deaf.getsockname()[1]}/").problem == "it could not be connected to"

    async def no_name(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert post("http://nowhere.example/", names=no_name).problem == "its name does not resolve"
    assert post("http://nowhere.example/", names=Names([])).problem == "its name does not resolve"


def test_the_next_address_is_asked_where_one_cannot_be_connected_to(receiver: WebhookReceiver) -> None:
    names = Names(["::1", "127.0.0.1"])  # the receiver listens on the second one only
    assert post(f"http://hooks.example:{receiver.port}/", names=names).good


def test_a_url_that_is_not_allowed_any_more_is_not_called(receiver: WebhookReceiver) -> None:
    answer = post(receiver.url, reach=Reach(https_only=True))
    assert "https://" in str(answer.problem)
    assert receiver.connections == 0
