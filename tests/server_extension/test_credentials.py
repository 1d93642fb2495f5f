"""What the API sees: nothing that opens Jupyter, and always a credential of its own."""

from __future__ import annotations

import json
import re
import stat

import httpx
import psutil
import pytest

from tests.server_extension.jupyter import Jupyter, running_jupyter, wait_until


def headers(seen: dict[str, list[list[str]]]) -> dict[str, str]:
    """The headers of an echo; joined when one came twice."""
    found: dict[str, str] = {}
    for name, value in seen["headers"]:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def test_the_token_never_reaches_the_api(jupyter: Jupyter) -> None:
    for text in (f"token {jupyter.token}", f"Bearer {jupyter.token}", f"TOKEN  {jupyter.token}"):
        seen = httpx.get(f"{jupyter.url}/echo", headers={"Authorization": text}).text
        assert jupyter.token not in seen
    referer = {"Referer": f"{jupyter.url}/docs?token={jupyter.token}"}
    assert jupyter.token not in httpx.get(f"{jupyter.url}/echo?token={jupyter.token}", headers=referer).text
    assert jupyter.token not in json.dumps(jupyter.seen()["environ"])


def test_a_token_that_only_the_hub_knows_never_reaches_the_api(hub: Jupyter) -> None:
    seen = httpx.get(f"{hub.url}/echo", headers={"Authorization": "token token-of-the-hub"})
    assert seen.status_code == 200
    assert "token-of-the-hub" not in seen.text


def test_the_cookies_never_reach_the_api(browser: httpx.Client) -> None:
    xsrf = browser.cookies["_xsrf"]
    seen = browser.post("/echo", params={"_xsrf": xsrf}, headers={"X-XSRFToken": xsrf}).json()
    assert {"cookie", "x-xsrftoken"}.isdisjoint(headers(seen))
    assert xsrf not in json.dumps(seen)
    assert seen["query"] == ""


def test_a_caller_without_a_key_is_the_local_principal(client: httpx.Client, jupyter: Jupyter) -> None:
    key = headers(client.get("/echo").json())["x-api-key"]
    assert re.fullmatch(r"tgw-[\w-]{43}", key)
    assert key == jupyter.seen()["environ"]["TG_API_KEY"]


@pytest.mark.parametrize("own", [("Authorization", "Bearer tgw-own"), ("X-API-Key", "tgw-own")])
def test_a_caller_with_a_key_is_itself(browser: httpx.Client, own: tuple[str, str]) -> None:
    seen = headers(browser.get("/echo", headers=dict([own])).json())
    given = {name: value for name, value in seen.items() if name in ("authorization", "x-api-key")}
    assert given == {own[0].lower(): own[1]}


def test_an_app_token_passes_beside_jupyters_in_the_address(jupyter: Jupyter) -> None:
    own = {"Authorization": "Bearer tgw-own"}
    seen = headers(httpx.get(f"{jupyter.url}/echo?token={jupyter.token}", headers=own).json())
    assert seen["authorization"] == "Bearer tgw-own"
    assert "x-api-key" not in seen


def test_nobody_speaks_in_the_proxys_name(client: httpx.Client) -> None:
    forged = {
        "X-TG-User": "root",
        "x_tg_user": "root",
        "X-Forwarded-For": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
    }
    seen = headers(client.get("/echo", headers=forged).json())
    assert {"x-tg-user", "x_tg_user", "forwarded"}.isdisjoint(seen)
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-prefix"] == "/tg"


def test_a_form_field_called_token_reaches_the_api(client: httpx.Client) -> None:
    seen = client.post("/oauth/revoke", data={"token": "abc"}).json()
    assert seen["body"] == "token=abc"
    assert headers(seen)["content-type"] == "application/x-www-form-urlencoded"


def test_the_api_lives_where_jupyter_says(jupyter: Jupyter) -> None:
    environ = jupyter.seen()["environ"]
    home = jupyter.home / "workbench"
    assert environ["TG_HOME"] == str(home)
    assert environ["DATABASE_URL"] == f"sqlite:///{home / 'tgsp.db'}"
    assert environ["TG_SOCKET"] == str(jupyter.api_socket)


def test_a_receiver_in_a_notebook_may_be_called(jupyter: Jupyter) -> None:
    assert jupyter.seen()["environ"]["TG_WEBHOOK_ALLOW_LOOPBACK"] == "true"


@pytest.mark.parametrize(
    "variables", [{"TG_ENVIRONMENT": "production"}, {"TG_WEBHOOK_ALLOW_LOOPBACK": "false"}]
)
def test_no_webhook_calls_this_machine_in_production_or_where_it_may_not(variables: dict[str, str]) -> None:
    with running_jupyter(**variables) as jupyter:
        assert jupyter.seen()["environ"]["TG_WEBHOOK_ALLOW_LOOPBACK"] == "false"


def test_the_socket_is_for_this_user_only(jupyter: Jupyter) -> None:
    assert stat.S_IMODE(jupyter.api_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(jupyter.api_socket.parent.stat().st_mode) == 0o700


def test_a_kernel_finds_the_socket_and_the_key(jupyter: Jupyter, client: httpx.Client) -> None:
    kernels = f"http://127.0.0.1:{jupyter.port}/api/kernels"
    kernel = client.post(kernels, json={"name": "python3"}).json()["id"]
    file = f"kernel-{kernel}.json"
    children = psutil.Process(jupyter.process.pid).children
    (process,) = wait_until(lambda: [child for child in children() if file in " ".join(child.cmdline())])
    environ = wait_until(process.environ)
    assert environ["TG_SOCKET"] == str(jupyter.api_socket)
    with httpx.Client(transport=httpx.HTTPTransport(uds=environ["TG_SOCKET"])) as straight:
        assert straight.get("http://workbench/echo").json()["headers"]
    assert environ["TG_API_KEY"] == jupyter.seen()["environ"]["TG_API_KEY"]
    assert client.delete(f"{kernels}/{kernel}").status_code == 204
