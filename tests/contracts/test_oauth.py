"""OAuth against a running workbench; the client on the other side is Authlib's, which has never seen ours."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import httpx2
import pytest
from authlib.integrations.httpx_client import OAuth2Client

from tests.contracts.people import PASSWORD, People, Person
from tests.contracts.test_settings_at_work import with_settings
from tests.workbench_server import WorkbenchServer

BACK = "https://app.example.com/back?from=workbench"
AUTH = "/api/v1/auth"
MINE = "/api/v1/training_clients"
Client = dict[str, Any]


def registered(person: Person, **more: Any) -> Client:
    body = {
        "name": "Plotter <b>",
        "redirect_uris": [BACK],
        "scope": "read:devices write:devices admin",
        **more,
    }
    answer = person.http.post("/workbench/v1/oauth_clients", json=body)
    assert answer.status_code == 201, answer.text
    found: Client = answer.json()
    return found


@pytest.fixture(scope="module")
def plotter(alice: Person) -> Client:
    """A confidential application of Alice's organisation."""
    return registered(alice)


@pytest.fixture(scope="module")
def applet(alice: Person) -> Client:
    """A public one."""
    return registered(alice, name="Applet", confidential=False)


def pair() -> tuple[str, str]:
    """A verifier and its challenge."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).decode().rstrip("=")


def wish(client: Client, **more: str | None) -> dict[str, str]:
    """The fields of an authorization request."""
    fields = {"response_type": "code", "client_id": client["client_id"], "redirect_uri": BACK, "state": "s-1"}
    return {name: value for name, value in {**fields, **more}.items() if value is not None}


def let_in(
    http: httpx.Client, person: Person, client: Client, *, decision: str = "allow", **more: str | None
) -> dict[str, str]:
    """Agree on the consent page; what the application hears."""
    form = {**wish(client, **more), "login": person.name, "password": PASSWORD, "decision": decision}
    return heard(http.post(f"{AUTH}/authorize", data=form))


def heard(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 302, answer.text
    assert answer.headers["cache-control"] == "no-store"
    location = answer.headers["location"]
    assert location.startswith(BACK + "&")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def exchange(http: httpx.Client, client: Client, code: str, **more: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": client["client_id"],
        "redirect_uri": BACK,
        **({"client_secret": client["client_secret"]} if client["client_secret"] else {}),
        **more,
    }
    return http.post(f"{AUTH}/token", data=form)


def error_of(answer: httpx.Response) -> str:
    body = answer.json()
    assert set(body) == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"
    return str(body["error"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ----------------------------------------------------------------------------- the whole way
@pytest.mark.operation("S2-01", "S2-02")
def test_qflares_own_example_gets_a_token(stranger: httpx.Client, alice: Person, plotter: Client) -> None:
    code = let_in(stranger, alice, plotter, scope="read:devices write:devices admin", state=None)["code"]
    answer = exchange(stranger, plotter, code)
    body = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (body["token_type"], body["scope"]) == ("Bearer", "read:devices write:devices admin")
    assert stranger.get("/api/v1/users", headers=bearer(body["access_token"])).status_code == 200
    assert stranger.get("/workbench/v1/api_keys", headers=bearer(body["access_token"])).status_code == 403


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_a_foreign_client_goes_the_whole_way(
    workbench_server: WorkbenchServer,
    stranger: httpx.Client,
    alice: Person,
    plotter: Client,
    applet: Client,
    method: str,
) -> None:
    app = applet if method == "none" else plotter
    base = "https://workbench"
    client = OAuth2Client(
        app["client_id"],
        app["client_secret"],
        scope="read:devices",
        redirect_uri=BACK,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        code_challenge_method="S256",
        transport=PlainTransport(workbench_server),
    )
    with client:
        verifier = secrets.token_urlsafe(48)
        url, state = client.create_authorization_url(f"{base}{AUTH}/authorize", code_verifier=verifier)
        page = stranger.get(url.removeprefix(base))
        assert page.status_code == 200
        form = {**fields_of(page.text), "login": alice.email, "password": PASSWORD, "decision": "allow"}
        location = stranger.post(f"{AUTH}/authorize", data=form).headers["location"]
        token = client.fetch_token(
            f"{base}{AUTH}/token", authorization_response=location, state=state, code_verifier=verifier
        )
        assert client.get(base + MINE).status_code == 200
        renewed = client.refresh_token(f"{base}{AUTH}/token", refresh_token=token["refresh_token"])
        assert renewed["refresh_token"] != token["refresh_token"]
        assert client.get(base + MINE).status_code == 200
        revoked = client.revoke_token(f"{base}{AUTH}/revoke", token=renewed["refresh_token"])
        assert revoked.status_code == 200
        assert stranger.get(MINE, headers=bearer(renewed["access_token"])).status_code == 401


class PlainTransport(httpx2.BaseTransport):
    """What TLS in front of a workbench does: the client says https, the socket hears http."""

    def __init__(self, server: WorkbenchServer) -> None:
        self.inner = httpx2.HTTPTransport(uds=str(server.socket))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(scheme="http")
        return self.inner.handle_request(request)


class _Inputs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found.get("type") == "hidden":
            self.fields[found["name"] or ""] = found["value"] or ""


def fields_of(page: str) -> dict[str, str]:
    inputs = _Inputs()
    inputs.feed(page)
    return inputs.fields


def test_somebody_who_is_signed_in_needs_no_password(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    form = {**wish(plotter, scope="read"), "decision": "allow"}
    assert heard(alice.http.post(f"{AUTH}/authorize", data=form))["error"] == "invalid_scope"
    form["scope"] = "read:devices"
    code = heard(alice.http.post(f"{AUTH}/authorize", data=form))["code"]
    assert exchange(stranger, plotter, code).status_code == 200


def test_neither_a_key_nor_an_application_lets_others_in(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    key = alice.http.post("/workbench/v1/api_keys", json={"name": "job"}).json()["key"]
    token = exchange(stranger, plotter, let_in(stranger, alice, plotter)["code"]).json()["access_token"]
    for credential in (key, token):
        answer = stranger.post(
            f"{AUTH}/authorize", data={**wish(plotter), "decision": "allow"}, headers=bearer(credential)
        )
        assert answer.status_code == 403


# ----------------------------------------------------------------------------- the page
@pytest.mark.operation("S2-01")
def test_the_page_says_what_is_asked_and_loads_nothing(stranger: httpx.Client, plotter: Client) -> None:
    answer = stranger.get(f"{AUTH}/authorize", params=wish(plotter, state='"><script>x</script>'))
    policy = answer.headers["content-security-policy"]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' https://app.example.com" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert "Plotter &lt;b&gt;" in answer.text
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=", answer.text)
    assert fields_of(answer.text)["state"] == '"><script>x</script>'
    style = re.search(r"<style>(.*)</style>", answer.text)
    assert style is not None
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy


def test_the_page_names_the_organisation_that_one_acts_for(
    api: httpx.Client, stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    name = "R&D <i>\u202e"
    path = f"/api/v1/organizations/{alice.organization_id}"
    before = alice.http.get(path).json()["name"]
    assert alice.http.put(path, json={"name": name}).status_code == 200
    page = stranger.get(f"{AUTH}/authorize", params=wish(plotter)).text
    assert "In the organisation <bdi>R&amp;D &lt;i&gt;\u202e</bdi> it wants to" in page
    alice.http.put(path, json={"name": before})
    body = {"name": "Everyone's", "redirect_uris": [BACK], "scope": "read"}
    client = api.post("/workbench/v1/oauth_clients", json=body).json()
    page = stranger.get(f"{AUTH}/authorize", params=wish(client)).text
    assert "In the organisation that you joined first it wants to" in page


@pytest.mark.parametrize("name", ["\u202egro.kbew", "TG\u200b Workbench", "a\nb", "a\u0085b", "a\u2028b"])
def test_an_application_has_a_name_that_looks_like_what_it_is(alice: Person, name: str) -> None:
    body = {"name": name, "redirect_uris": [BACK]}
    answer = alice.http.post("/workbench/v1/oauth_clients", json=body)
    assert (answer.status_code, name in answer.text) == (422, False)


@pytest.mark.parametrize(
    ("registered_as", "asked_for", "leads"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:53412/cb", True),
        ("http://127.0.0.1:8080/cb?x=1", "http://127.0.0.1:53412/cb?x=1", True),
        ("http://[::1]:1/cb", "http://[::1]:53412/cb", True),
        ("http://localhost/cb", "http://localhost:53412/cb", True),
        ("http://localhost", "http://localhost:53412", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:53412/other", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:53412@evil.example/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", False),
        ("http://127.0.0.1/cb", "http://localhost:53412/cb", False),
        ("http://127.0.0.1/cb", "https://127.0.0.1:53412/cb", False),
        ("https://app.example.com/cb", "https://app.example.com:53412/cb", False),
    ],
)
def test_a_native_application_listens_at_any_port_of_this_machine(
    stranger: httpx.Client, alice: Person, registered_as: str, asked_for: str, leads: bool
) -> None:
    client = registered(alice, redirect_uris=[registered_as])
    form = {
        **wish(client, redirect_uri=asked_for),
        "login": alice.name,
        "password": PASSWORD,
        "decision": "allow",
    }
    answer = stranger.post(f"{AUTH}/authorize", data=form)
    assert answer.status_code == (302 if leads else 400)
    if leads:
        location = urlsplit(answer.headers["location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == asked_for.partition("?")[0]
        code = parse_qs(location.query)["code"][0]
        if ":53412" in asked_for and asked_for != registered_as:
            other = exchange(stranger, client, code, redirect_uri=registered_as)
            assert error_of(other) == "invalid_grant"
        assert exchange(stranger, client, code, redirect_uri=asked_for).status_code == 200


def test_in_production_oauth_waits_for_a_public_address(tmp_path: Path) -> None:
    variables = {"TG_ENVIRONMENT": "production", "TG_API_KEY": "k" * 20}
    http = with_settings(tmp_path / "unnamed", **variables)
    for path in ("/.well-known/oauth-authorization-server", f"{AUTH}/authorize"):
        answer = http.get(path, headers={"Host": "evil.example"})
        assert (answer.status_code, "TG_PUBLIC_URL" in answer.text) == (503, True)
        assert "evil" not in answer.text
    named = with_settings(tmp_path / "named", TG_PUBLIC_URL="https://tg.example.org/", **variables)
    found = named.get("/.well-known/oauth-authorization-server", headers={"Host": "evil.example"}).json()
    assert found["issuer"] == "https://tg.example.org"


def test_a_wrong_password_shows_the_page_again(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    form = {**wish(plotter), "login": alice.name, "password": "wrong-one", "decision": "allow"}
    answer = stranger.post(f"{AUTH}/authorize", data=form)
    assert (answer.status_code, "location" in answer.headers) == (401, False)
    assert fields_of(answer.text) == wish(plotter)
    assert "wrong-one" not in answer.text


def test_a_person_may_say_no(stranger: httpx.Client, alice: Person, plotter: Client) -> None:
    told = let_in(stranger, alice, plotter, decision="deny")
    assert (told["error"], told["state"]) == ("access_denied", "s-1")
    assert "code" not in told


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "app_none"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": BACK + "/"},
        {"redirect_uri": BACK.upper()},
        {"redirect_uri": "https://app.example.com/back"},
        {"redirect_uri": "https://app.example.com.evil.example/back?from=workbench"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
def test_nobody_is_sent_where_no_application_has_asked_for(
    stranger: httpx.Client, plotter: Client, change: dict[str, str | None]
) -> None:
    for answer in (
        stranger.get(f"{AUTH}/authorize", params=wish(plotter, **change)),
        stranger.post(f"{AUTH}/authorize", data=wish(plotter, **change)),
    ):
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert "evil" not in answer.text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"scope": "read:devices root"}, "invalid_scope"),
        ({"scope": "monitoring"}, "invalid_scope"),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "x" * 43}, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
        ({"code_challenge_method": "S256"}, "invalid_request"),
    ],
)
def test_what_an_application_did_wrong_is_told_to_it(
    stranger: httpx.Client, plotter: Client, change: dict[str, str | None], error: str
) -> None:
    told = heard(stranger.get(f"{AUTH}/authorize", params=wish(plotter, **change)))
    assert (told["error"], told["state"]) == (error, "s-1")
    assert told["iss"] == "http://workbench"


def test_a_field_that_comes_twice_is_refused(stranger: httpx.Client, plotter: Client) -> None:
    twice = f"{urlencode(wish(plotter))}&redirect_uri=https://evil.example"
    assert stranger.get(f"{AUTH}/authorize?{twice}").status_code == 400


# ----------------------------------------------------------------------------- PKCE
def test_a_public_application_has_to_prove_that_it_asked(
    stranger: httpx.Client, alice: Person, applet: Client
) -> None:
    assert let_in(stranger, alice, applet)["error"] == "invalid_request"
    verifier, challenge = pair()
    proof = {"code_challenge": challenge, "code_challenge_method": "S256"}
    code = let_in(stranger, alice, applet, **proof)["code"]
    assert error_of(exchange(stranger, applet, code)) == "invalid_grant"
    assert error_of(exchange(stranger, applet, code, code_verifier=pair()[0])) == "invalid_grant"
    assert error_of(exchange(stranger, applet, code, code_verifier=challenge)) == "invalid_grant"
    assert error_of(exchange(stranger, applet, code, code_verifier="short")) == "invalid_request"
    assert exchange(stranger, applet, code, code_verifier=verifier).status_code == 200


def test_a_verifier_that_nobody_asked_for_is_refused(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    code = let_in(stranger, alice, plotter)["code"]
    assert error_of(exchange(stranger, plotter, code, code_verifier=pair()[0])) == "invalid_grant"


# ----------------------------------------------------------------------------- codes and tokens
@pytest.mark.operation("S2-02")
def test_a_code_that_comes_back_ends_what_it_was_good_for(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    code = let_in(stranger, alice, plotter)["code"]
    tokens = exchange(stranger, plotter, code).json()
    assert stranger.get(MINE, headers=bearer(tokens["access_token"])).status_code == 200
    assert error_of(exchange(stranger, plotter, code)) == "invalid_grant"
    assert stranger.get(MINE, headers=bearer(tokens["access_token"])).status_code == 401
    assert error_of(refreshed(stranger, plotter, tokens["refresh_token"])) == "invalid_grant"


def refreshed(http: httpx.Client, client: Client, token: str, **more: str) -> httpx.Response:
    named = {name: client[name] for name in ("client_id", "client_secret") if client[name]}
    return http.post(
        f"{AUTH}/token", data={"grant_type": "refresh_token", "refresh_token": token, **named, **more}
    )


def test_a_code_is_for_one_application_and_one_address(
    stranger: httpx.Client, alice: Person, plotter: Client, applet: Client
) -> None:
    code = let_in(stranger, alice, plotter)["code"]
    assert error_of(exchange(stranger, applet, code)) == "invalid_grant"
    assert error_of(exchange(stranger, plotter, code, redirect_uri=BACK + "x")) == "invalid_grant"
    assert exchange(stranger, plotter, code).status_code == 200


def test_a_refresh_token_that_comes_back_ends_the_session(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    first = exchange(stranger, plotter, let_in(stranger, alice, plotter)["code"]).json()
    second = refreshed(stranger, plotter, first["refresh_token"]).json()
    assert error_of(refreshed(stranger, plotter, first["refresh_token"])) == "invalid_grant"
    assert error_of(refreshed(stranger, plotter, second["refresh_token"])) == "invalid_grant"
    assert stranger.get(MINE, headers=bearer(second["access_token"])).status_code == 401


def test_a_refresh_token_is_its_own_applications_alone(
    stranger: httpx.Client, alice: Person, plotter: Client, applet: Client
) -> None:
    token = exchange(stranger, plotter, let_in(stranger, alice, plotter)["code"]).json()["refresh_token"]
    assert error_of(refreshed(stranger, applet, token)) == "invalid_grant"
    assert stranger.post("/auth/refresh", json={"refresh_token": token}).status_code == 401
    assert error_of(refreshed(stranger, applet, alice.signed_in["refresh_token"])) == "invalid_grant"
    assert refreshed(stranger, plotter, token).status_code == 200


def test_a_refreshed_token_may_do_less_and_never_more(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    scope = "read:devices write:devices"
    first = exchange(stranger, plotter, let_in(stranger, alice, plotter, scope=scope)["code"]).json()
    less = refreshed(stranger, plotter, first["refresh_token"], scope="read:devices").json()
    assert stranger.get(MINE, headers=bearer(less["access_token"])).status_code == 200
    assert stranger.delete(f"{MINE}/none", headers=bearer(less["access_token"])).status_code == 403
    more = refreshed(stranger, plotter, less["refresh_token"], scope="read:devices admin")
    assert error_of(more) == "invalid_scope"
    assert refreshed(stranger, plotter, less["refresh_token"]).status_code == 200  # it was not used up


def test_an_application_issues_no_key_and_ends_with_what_it_was_given(
    stranger: httpx.Client, alice: Person
) -> None:
    client = registered(alice, scope="read keys")
    token = exchange(stranger, client, let_in(stranger, alice, client)["code"]).json()["access_token"]
    issued = stranger.post(
        "/workbench/v1/api_keys", json={"name": "x", "scopes": ["read"]}, headers=bearer(token)
    )
    assert issued.status_code == 403
    assert stranger.get("/workbench/v1/api_keys", headers=bearer(token)).status_code == 200
    listed = stranger.get("/workbench/v1/sessions", headers=bearer(token)).json()
    assert [each["client_id"] for each in listed["sessions"]] == [client["client_id"]]


@pytest.mark.parametrize("way", ["password", "everywhere", "close"])
def test_a_code_on_its_way_ends_with_what_ends_every_session(
    people: People, stranger: httpx.Client, way: str
) -> None:
    person = people.register("lena")
    client = registered(person)
    code = let_in(stranger, person, client)["code"]
    if way == "password":
        change = {"password": PASSWORD, "new_password": PASSWORD + "-2"}
        assert person.http.put("/workbench/v1/account/password", json=change).status_code == 200
    elif way == "everywhere":
        assert person.http.delete("/workbench/v1/sessions").status_code == 200
    else:
        closed = person.http.post("/workbench/v1/account/close", json={"password": PASSWORD})
        assert closed.status_code == 200
    assert error_of(exchange(stranger, client, code)) == "invalid_grant"


@pytest.mark.parametrize("change", [{"client_secret": "tgo_wrong"}, {"client_id": "app_none"}])
def test_a_wrong_secret_is_told_as_the_rfc_says(
    stranger: httpx.Client, plotter: Client, change: dict[str, str]
) -> None:
    answer = exchange(stranger, plotter, "any", **change)
    assert (answer.status_code, error_of(answer)) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_a_confidential_application_cannot_come_without_its_secret(
    stranger: httpx.Client, alice: Person, plotter: Client
) -> None:
    code = let_in(stranger, alice, plotter)["code"]
    assert error_of(exchange(stranger, {**plotter, "client_secret": None}, code)) == "invalid_client"


@pytest.mark.operation("S2-02")
@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "\u00e9" * 10}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 5000}, "invalid_request"),
        ({"grant_type": "refresh_token", "scope": "root"}, "invalid_scope"),
        ({"grant_type": "\"'\\\u00e9"}, "unsupported_grant_type"),
        ({"grant_type": "a\nb"}, "invalid_request"),
    ],
)
def test_a_token_request_that_is_wrong_is_told_so(
    stranger: httpx.Client, plotter: Client, form: dict[str, str], error: str
) -> None:
    named = {name: plotter[name] for name in ("client_id", "client_secret")}
    answer = stranger.post(f"{AUTH}/token", data={**named, **form})
    assert (answer.status_code, error_of(answer)) == (400, error)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a=%ff", b"a=1&a=2", b"&".join([b"a=1"] * 99)])
def test_a_form_that_is_none_is_refused(stranger: httpx.Client, content: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("token", "revoke", "introspect"):
        answer = stranger.post(f"{AUTH}/{path}", content=content, headers=headers)
        assert answer.status_code in (400, 401)
        error_of(answer)
    assert stranger.post(f"{AUTH}/token", json={"grant_type": "x"}).status_code == 400


# ----------------------------------------------------------------------------- whose
def test_an_application_is_let_in_by_its_own_organisation_only(
    stranger: httpx.Client, bob: Person, carol: Person, plotter: Client
) -> None:
    assert let_in(stranger, bob, plotter)["error"] == "access_denied"
    form = {**wish(plotter), "decision": "allow"}
    assert heard(bob.http.post(f"{AUTH}/authorize", data=form))["error"] == "access_denied"
    told = let_in(stranger, carol, plotter)  # a member: what she cannot do, she does not give
    assert exchange(stranger, plotter, told["code"]).json()["scope"] == "read:devices"


def test_the_operators_application_is_for_everybody(
    api: httpx.Client, stranger: httpx.Client, bob: Person
) -> None:
    body = {"name": "Everyone's", "redirect_uris": [BACK], "scope": "read"}
    client = api.post("/workbench/v1/oauth_clients", json=body).json()
    assert exchange(stranger, client, let_in(stranger, bob, client)["code"]).status_code == 200


def test_applications_are_their_organisations_own(alice: Person, bob: Person, plotter: Client) -> None:
    path = f"/workbench/v1/oauth_clients/{plotter['client_id']}"
    assert bob.http.delete(path).status_code == 404
    assert bob.http.get("/workbench/v1/oauth_clients").json()["total"] == 0
    listed = alice.http.get("/workbench/v1/oauth_clients")
    assert plotter["client_secret"] not in listed.text


def test_removing_an_application_ends_what_it_was_let_in_for(stranger: httpx.Client, alice: Person) -> None:
    client = registered(alice, name="Short-lived")
    tokens = exchange(stranger, client, let_in(stranger, alice, client)["code"]).json()
    assert alice.http.delete(f"/workbench/v1/oauth_clients/{client['client_id']}").status_code == 200
    assert stranger.get(MINE, headers=bearer(tokens["access_token"])).status_code == 401
    assert error_of(refreshed(stranger, client, tokens["refresh_token"])) == "invalid_client"


@pytest.mark.parametrize(
    "address",
    [
        "http://app.example.com/back",
        "https://app.example.com/back#fragment",
        "https://user@app.example.com/",
        "https:///nowhere",
        "https://a,b/",
        "javascript:alert(1)",
        "data:text/html,x",
        "//app.example.com",
        "https://app.example.com/\nback",
        "https://app.example.com/;x",
        "https://app.example.com:99999999/",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_an_address_that_others_could_listen_at_is_refused(alice: Person, address: str) -> None:
    body = {"name": "x", "redirect_uris": [address]}
    assert alice.http.post("/workbench/v1/oauth_clients", json=body).status_code == 422


@pytest.mark.parametrize(
    "address", ["http://localhost:8123/cb", "http://[::1]:9/", "com.example.app:/back", "https://x.org"]
)
def test_addresses_of_native_applications_are_taken(alice: Person, address: str) -> None:
    client = registered(alice, redirect_uris=[address], confidential=False)
    assert client["client_secret"] is None


def test_an_application_sees_no_more_of_its_users_account_than_it_was_given(
    stranger: httpx.Client, people: People, alice: Person, plotter: Client
) -> None:
    token = exchange(stranger, plotter, let_in(stranger, alice, plotter)["code"]).json()["access_token"]
    assert stranger.delete("/workbench/v1/sessions", headers=bearer(token)).status_code == 403
    path = f"/workbench/v1/sessions/{alice.signed_in['session_id']}"
    assert stranger.delete(path, headers=bearer(token)).status_code == 403
    assert stranger.delete("/workbench/v1/sessions/current", headers=bearer(token)).status_code == 200
    assert stranger.get(MINE, headers=bearer(token)).status_code == 401


# ----------------------------------------------------------------------------- revocation and introspection
@pytest.fixture
def tokens(stranger: httpx.Client, alice: Person, plotter: Client) -> Client:
    found: Client = exchange(stranger, plotter, let_in(stranger, alice, plotter)["code"]).json()
    return found


def form_of(client: Client, token: str) -> dict[str, str]:
    return {
        "token": token,
        **{name: client[name] for name in ("client_id", "client_secret") if client[name]},
    }


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_both(
    stranger: httpx.Client, plotter: Client, applet: Client, tokens: dict[str, str], which: str
) -> None:
    other = stranger.post(f"{AUTH}/revoke", data=form_of(applet, tokens[which]))
    assert (other.status_code, stranger.get(MINE, headers=bearer(tokens["access_token"])).status_code) == (
        200,
        200,
    )
    assert stranger.post(f"{AUTH}/revoke", data=form_of(plotter, tokens[which])).status_code == 200
    assert stranger.get(MINE, headers=bearer(tokens["access_token"])).status_code == 401
    assert error_of(refreshed(stranger, plotter, tokens["refresh_token"])) == "invalid_grant"
    assert stranger.post(f"{AUTH}/revoke", data=form_of(plotter, "unknown")).status_code == 200


def test_introspection_says_what_a_token_is_good_for(
    stranger: httpx.Client,
    alice: Person,
    bob: Person,
    plotter: Client,
    applet: Client,
    tokens: dict[str, str],
) -> None:
    def told(client: Client, token: str) -> Any:
        return stranger.post(f"{AUTH}/introspect", data=form_of(client, token)).json()

    found = told(plotter, tokens["access_token"])
    assert (found["active"], found["username"], found["sub"]) == (True, alice.name, alice.user_id)
    assert (found["client_id"], found["scope"]) == (plotter["client_id"], "read train devices admin")
    assert found["exp"] - found["iat"] == 1800
    assert told(plotter, tokens["refresh_token"])["token_type"] == "refresh_token"
    for token in ("unknown", bob.signed_in["access_token"], alice.signed_in["refresh_token"]):
        assert told(plotter, token) == {"active": False}
    assert told(applet, tokens["access_token"])["error"] == "unauthorized_client"
    stranger.post(f"{AUTH}/revoke", data=form_of(plotter, tokens["access_token"]))
    assert (
        told(plotter, tokens["access_token"]) == told(plotter, tokens["refresh_token"]) == {"active": False}
    )


def test_the_metadata_names_every_endpoint(stranger: httpx.Client) -> None:
    found = stranger.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == "http://workbench"
    assert found["code_challenge_methods_supported"] == ["S256"]
    for name, address in found.items():
        if name.endswith("_endpoint"):
            path = urlsplit(address).path
            method = "GET" if name == "authorization_endpoint" else "POST"
            assert stranger.request(method, path).status_code not in (404, 405)
