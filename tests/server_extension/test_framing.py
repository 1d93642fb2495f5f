"""Where a request ends is beyond doubt, and what belongs to one connection stays on it."""

from __future__ import annotations

import httpx
import pytest

from tests.server_extension.jupyter import Jupyter, wait_until
from tests.server_extension.test_credentials import headers

CHUNKED = "Transfer-Encoding: chunked"
MALFORMED = {
    "no-size": b"zz\r\nabc\r\n",
    "too-long": b"3\r\nabcX\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n",
    "extension": b"3;x=1\r\nabc\r\n0\r\n\r\n",
    "no-end": b"3\r\nabc\r\n0\r\nX",
    "trailers": b"3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n",
    "bare-newline": b"3\nabc\n0\n\n",
}
DOUBTFUL = [
    ["Content-Length: 5", CHUNKED],
    [CHUNKED, "Content-Length: 5"],
    ["Content-Length: 5", "Content-Length: 6"],
    ["Content-Length: 5", "Content-Length: 5"],
    ["Content-Length: 5, 5"],
    ["Content-Length: +5"],
    ["Content-Length: 0x5"],
    ["Content-Length: -5"],
    ["Content-Length: 5_0"],
    ["Content-Length: " + "9" * 30],
    ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding: identity"],
    ["Transfer-Encoding: xchunked"],
    [CHUNKED, CHUNKED],
    ["Content-Length : 5"],
    ["Content-Length: 5", "X: a\x00b"],
    ["Content-Length: 5", "X: a\rb"],
    ["Transfer-Encoding:\x0bchunked"],
]


def smuggled(jupyter: Jupyter) -> bytes:
    """A request that would be good, if it were one."""
    return jupyter.head("POST /tg/upload?smuggled", "Content-Length: 0")


def statuses(answers: bytes) -> list[bytes]:
    return [line.split()[1] for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_chunk_is_refused_and_the_connection_closed(jupyter: Jupyter, name: str) -> None:
    head = jupyter.head(f"POST /tg/upload?{name}", CHUNKED)
    answers = jupyter.send(head + MALFORMED[name] + smuggled(jupyter))
    assert statuses(answers) == [b"400"]
    uploads = jupyter.seen()["uploads"]
    assert uploads.get(name, {}).get("complete") is not True
    assert "smuggled" not in uploads


@pytest.mark.parametrize("lines", DOUBTFUL, ids=str)
def test_a_length_in_doubt_is_refused_before_the_api_hears_of_it(jupyter: Jupyter, lines: list[str]) -> None:
    head = jupyter.head("POST /tg/upload?doubtful", *lines)
    answers = jupyter.send(head + b"0\r\n\r\n" + smuggled(jupyter))
    assert statuses(answers) == [b"400"]
    assert {"doubtful", "smuggled"}.isdisjoint(jupyter.seen()["uploads"])


@pytest.mark.parametrize("line", [CHUNKED, "Content-Length: 100"])
def test_a_body_that_breaks_off_is_never_complete(jupyter: Jupyter, line: str) -> None:
    name = f"broken-{line[:5]}"
    with jupyter.connect() as connection:
        connection.sendall(jupyter.head(f"POST /tg/upload?{name}", line) + b"3\r\nabc\r\n")
        wait_until(lambda: jupyter.seen()["uploads"].get(name, {}).get("bytes"))
    wait_until(lambda: jupyter.seen()["uploads"][name]["left"])
    assert jupyter.seen()["uploads"][name]["complete"] is False


def test_headers_of_one_connection_do_not_reach_the_api(client: httpx.Client) -> None:
    sent = {
        "Connection": "keep-alive, X-Private",
        "X-Private": "for the proxy only",
        "Keep-Alive": "timeout=5",
        "Proxy-Authorization": "Basic eA==",
        "Proxy-Connection": "keep-alive",
        "TE": "trailers",
        "Trailer": "X-Late",
        "Upgrade": "h2c",
        "X-Kept": "yes",
    }
    seen = headers(client.get("/echo", headers=sent).json())
    assert {name.lower() for name in sent} & set(seen) == {"connection", "x-kept"}
    assert seen["connection"] == "keep-alive"


def test_headers_of_one_connection_do_not_reach_the_caller(client: httpx.Client) -> None:
    answer = client.get("/odd")
    hidden = {"x-private", "keep-alive", "proxy-authenticate", "upgrade", "trailer"}
    assert hidden.isdisjoint(answer.headers)
    assert "planted" not in str(answer.headers)  # a cookie; Jupyter's own may be there
    assert answer.headers.get_list("X-Kept") == ["one", "two"]


def test_the_api_does_not_open_this_origin_to_others(browser: httpx.Client) -> None:
    assert "Access-Control-Allow-Origin" not in browser.get("/odd").headers


def test_a_target_reaches_the_api_as_it_was_sent(jupyter: Jupyter) -> None:
    path, query = "/a%2Fb/../c//d;e=1/%E2%98%83", "q=%26&r=a+b&&s="
    answer = jupyter.send(jupyter.head(f"GET /tg{path}?{query}", "Connection: close")).decode()
    assert f'"path": "{path}"' in answer
    assert f'"query": "{query}"' in answer


def test_a_header_outside_ascii_arrives(client: httpx.Client) -> None:
    sent = [(b"X-Name", "Zoë".encode())]
    seen = headers(client.get("/echo", headers=sent).json())
    assert seen["x-name"].encode("latin1").decode() == "Zoë"


def test_a_header_that_is_not_text_is_refused(client: httpx.Client) -> None:
    answer = client.get("/echo", headers=[(b"X-Name", b"\xff\xfe")])
    assert answer.status_code == 400
