"""Bytes go through as they come, in both directions, and Jupyter's memory stays flat."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.server_extension.jupyter import Jupyter, in_threads, wait_until

MIB = 1024 * 1024
MOST_GROWTH = 60 * MIB
MOST_ON_THE_WAY = 48 * MIB


def pieces(count: int) -> Iterator[bytes]:
    piece = bytes(MIB)
    for _ in range(count):
        yield piece


def lags(answer: httpx.Response) -> list[float]:
    """How late each event of a stream came."""
    return [
        time.monotonic() - float(line.removeprefix("data: "))
        for line in answer.iter_lines()
        if line.startswith("data")
    ]


@pytest.mark.parametrize(("mebibytes", "framing"), [(100, "counted"), (100, "chunked"), (600, "counted")])
def test_a_large_upload_streams_and_memory_stays_flat(
    jupyter: Jupyter, client: httpx.Client, mebibytes: int, framing: str
) -> None:
    before = jupyter.forget_peak()
    length = {"Content-Length": str(mebibytes * MIB)} if framing == "counted" else {}
    answer = client.post(f"/upload?{framing}-{mebibytes}", content=pieces(mebibytes), headers=length)
    assert answer.json()["bytes"] == mebibytes * MIB
    assert jupyter.peak_memory - before < MOST_GROWTH


def test_a_slow_upload_reaches_the_api_as_it_is_sent(client: httpx.Client, jupyter: Jupyter) -> None:
    def slowly() -> Iterator[bytes]:
        for sent in range(1, 6):
            yield b"x" * 1000
            wait_until(
                lambda sent=sent: jupyter.seen()["uploads"].get("slow", {}).get("bytes") == sent * 1000
            )
            time.sleep(0.1)

    answer = client.post("/upload?slow", content=slowly()).json()
    assert answer["bytes"] == 5000
    assert answer["seconds"] > 0.4


def test_a_large_download_streams_and_memory_stays_flat(client: httpx.Client, jupyter: Jupyter) -> None:
    before = jupyter.forget_peak()
    with client.stream("GET", "/download?120") as answer:
        assert sum(map(len, answer.iter_raw())) == 120 * MIB
    assert jupyter.peak_memory - before < MOST_GROWTH


def test_a_caller_that_does_not_read_slows_the_api_down(jupyter: Jupyter) -> None:
    def sent() -> int:
        return int(jupyter.seen()["streams"].get("download 300", 0))

    def stalled() -> bool:
        first = sent()
        time.sleep(0.3)
        return 0 < first == sent()

    with jupyter.connect() as connection:
        connection.sendall(jupyter.head("GET /tg/download?300"))
        assert connection.recv(1000)
        wait_until(stalled)
        assert sent() * MIB < MOST_ON_THE_WAY


def test_an_api_that_does_not_read_slows_the_caller_down(jupyter: Jupyter) -> None:
    sent = 0
    with jupyter.connect() as connection:
        connection.sendall(jupyter.head("POST /tg/hold", f"Content-Length: {2**30}"))
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < MOST_ON_THE_WAY:
                sent += connection.send(bytes(65536))
    assert 0 < sent < MOST_ON_THE_WAY


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
def test_events_come_as_they_are_sent(client: httpx.Client, accept: str) -> None:
    with client.stream("GET", "/events?timed=50", headers={"Accept": accept}) as answer:
        late = lags(answer)
    assert len(late) == 50
    assert statistics.median(late) < 0.1


def test_thirty_two_streams_run_side_by_side(jupyter: Jupyter) -> None:
    def follow(number: int) -> None:
        with jupyter.client() as client, client.stream("GET", f"/events?many-{number}=50") as answer:
            late = lags(answer)
        assert len(late) == 50
        assert statistics.median(late) < 1.0

    in_threads(32, follow)
    names = [f"many-{number}" for number in range(32)]
    wait_until(lambda: {jupyter.seen()["streams"][name] for name in names} == {"closed"})


def test_a_stream_ends_at_the_api_when_the_caller_leaves(client: httpx.Client, jupyter: Jupyter) -> None:
    with client.stream("GET", "/events?left") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data")
        assert jupyter.seen()["streams"]["left"] == "open"
    wait_until(lambda: jupyter.seen()["streams"]["left"] == "closed")


@pytest.mark.parametrize("how", ["counted", "chunked"])
def test_half_an_answer_does_not_look_whole(client: httpx.Client, how: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"/die?{how}")


def test_the_api_may_answer_before_the_body_has_come(client: httpx.Client) -> None:
    answer = client.post("/refuse", content=pieces(32), headers={"Content-Length": str(32 * MIB)})
    assert answer.status_code == 413
    assert answer.json() == {"error": "too much"}


def test_head_has_the_length_and_no_body(client: httpx.Client) -> None:
    answer = client.head("/download?2")
    assert answer.headers["Content-Length"] == str(2 * MIB)
    assert answer.content == b""


def test_a_body_goes_with_delete(client: httpx.Client) -> None:
    seen = client.request("DELETE", "/echo", content=b"why").json()
    assert (seen["method"], seen["body"]) == ("DELETE", "why")


def test_no_content_is_no_content(client: httpx.Client) -> None:
    answer = client.delete("/empty")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_compressed_body_is_not_touched(client: httpx.Client) -> None:
    with client.stream("GET", "/compressed") as answer:
        assert b"".join(answer.iter_raw()) == b"not a zip"
    assert answer.headers["Content-Encoding"] == "gzip"


def test_a_connection_is_used_again(jupyter: Jupyter) -> None:
    first = jupyter.head("POST /tg/echo", "Content-Length: 3") + b"abc"
    last = jupyter.head("GET /tg/echo", "Connection: close")
    with jupyter.connect() as connection:
        connection.sendall(first + last)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("how", ["counted", "chunked"])
def test_a_body_over_the_limit_is_refused(hub: Jupyter, how: str) -> None:
    length = {"Content-Length": str(2 * MIB)} if how == "counted" else {}
    with hub.client() as client:
        answer = client.post(f"/upload?over-{how}", content=pieces(2), headers=length)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
    assert "TG_MAX_BODY_BYTES" in answer.json()["error"]["message"]
    assert hub.seen()["uploads"].get(f"over-{how}", {}).get("complete") is not True


def test_everything_works_under_another_base_url(hub: Jupyter) -> None:
    with hub.client() as client:
        assert client.get("/echo?x=1").json()["path"] == "/echo"
        assert client.get("").json()["path"] == "/"
        assert client.get("/").json()["path"] == "/"
        assert client.get(f"http://127.0.0.1:{hub.port}/tg/echo").status_code == 404


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("/elsewhere?a=1", "/user/alice/tg/elsewhere?a=1"),
        ("/user/alice/tg/elsewhere", "/user/alice/tg/elsewhere"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
        ("next", "next"),
    ],
)
def test_a_redirect_stays_under_the_base_url(hub: Jupyter, said: str, meant: str) -> None:
    with hub.client() as client:
        assert client.get(f"/redirect?{said}").headers["Location"] == meant
