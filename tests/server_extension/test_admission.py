"""Who may pass: Jupyter's login on every method, its XSRF token for cookies, its own origin."""

from __future__ import annotations

import httpx
import pytest

from tests.server_extension.jupyter import Jupyter

EVIL = {"Origin": "http://evil.example"}
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


def code(answer: httpx.Response) -> str:
    """The code in an S0 envelope."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details", "request_id"}
    return str(error["code"])


@pytest.mark.parametrize("method", METHODS)
def test_nobody_passes_without_a_login(jupyter: Jupyter, method: str) -> None:
    answer = httpx.request(method, f"{jupyter.url}/upload?nobody-{method}")
    assert answer.status_code == 403
    assert f"nobody-{method}" not in jupyter.seen()["uploads"]


@pytest.mark.parametrize("wrong", [{"Authorization": "token wrong"}, {"X-API-Key": "tgw-wrong"}])
def test_nobody_passes_with_a_credential_that_is_not_jupyters(
    jupyter: Jupyter, wrong: dict[str, str]
) -> None:
    answer = httpx.get(f"{jupyter.url}/echo", headers=wrong)
    assert answer.status_code == 403
    assert code(answer) == "PERMISSION_DENIED"
    assert "log in to Jupyter" in answer.json()["error"]["message"]


def test_a_refused_upload_is_answered_before_its_connection_closes(jupyter: Jupyter) -> None:
    answer = httpx.post(f"{jupyter.url}/upload?refused", content=bytes(8 * 1024 * 1024))
    assert answer.status_code == 403
    assert answer.headers["Connection"] == "close"
    assert "refused" not in jupyter.seen()["uploads"]


@pytest.mark.parametrize("method", [method for method in METHODS if method != "HEAD"])
def test_the_token_opens_every_method(client: httpx.Client, method: str) -> None:
    seen = client.request(method, "/echo", json={"a": 1}).json()
    assert seen["method"] == method
    assert seen["body"] == '{"a":1}'


def test_the_token_works_in_the_address(jupyter: Jupyter) -> None:
    answer = httpx.get(f"{jupyter.url}/echo?a=1&token={jupyter.token}&b=%20")
    assert answer.json()["query"] == "a=1&b=%20"


def test_a_cookie_reads(browser: httpx.Client) -> None:
    assert browser.get("/echo").status_code == 200


def test_a_cookie_does_not_write_without_the_xsrf_token(browser: httpx.Client, jupyter: Jupyter) -> None:
    answer = browser.post("/upload?forged", json={})
    assert answer.status_code == 403
    assert code(answer) == "PERMISSION_DENIED"
    assert "forged" not in jupyter.seen()["uploads"]


def test_a_cookie_does_not_write_with_another_xsrf_token(browser: httpx.Client) -> None:
    assert browser.post("/echo", headers={"X-XSRFToken": "2|00|00|0"}).status_code == 403


def test_a_cookie_writes_with_the_xsrf_token(browser: httpx.Client) -> None:
    answer = browser.post("/echo", json={}, headers={"X-XSRFToken": browser.cookies["_xsrf"]})
    assert answer.status_code == 200


def test_a_cookie_and_an_app_key_do_not_write_without_the_xsrf_token(browser: httpx.Client) -> None:
    assert browser.post("/echo", headers={"Authorization": "Bearer tgw-key"}).status_code == 403


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_origin_gets_nothing_by_cookie(browser: httpx.Client, method: str) -> None:
    answer = browser.request(method, "/echo", headers={**EVIL, "X-XSRFToken": browser.cookies["_xsrf"]})
    assert answer.status_code == 404
    assert code(answer) == "NOT_FOUND"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_of_no_origin_gets_nothing_by_cookie(browser: httpx.Client) -> None:
    assert browser.get("/echo", headers={"Origin": "null"}).status_code == 404


def test_an_address_outside_is_not_the_apis(jupyter: Jupyter) -> None:
    with jupyter.client() as client:
        assert client.get(f"http://127.0.0.1:{jupyter.port}/tgx").headers["Server"].startswith("Tornado")


def test_a_browser_is_refused_in_a_page(jupyter: Jupyter) -> None:
    answer = httpx.get(f"{jupyter.url}/echo", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Not allowed</h1>" in answer.text
