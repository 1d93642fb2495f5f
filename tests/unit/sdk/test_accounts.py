from __future__ import annotations

import threading

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer, Step, answer, hang_up, refusal
from tg_workbench import Refused, Unauthenticated, Workbench
from tg_workbench.errors import WrongPassword
from tg_workbench.sdk import accounts
from tg_workbench.sdk.connection import Body, Call

PASSWORD = "correct-horse-battery-staple"


def tokens(number: int, expires_in: float = 1800) -> Step:
    told = {"access_token": f"eyJ-{number}", "refresh_token": f"tgr_{number}", "expires_in": expires_in}
    return answer({**told, "user_id": "usr-1", "username": "alice", "scopes": ["read"]}, 201)


REFUSED = refusal(
    "AUTHENTICATION_REQUIRED", 401, "this token has expired; get a new one", kind="TokenExpired"
)
ME = answer({"user_id": "usr-1", "username": "alice", "organization_id": "org-1", "scopes": ["read"]})


def bearers(server: ScriptedServer) -> list[str | None]:
    return [seen.headers.get("authorization") for seen in server.seen]


@pytest.fixture
def alice(server: ScriptedServer, workbench: Workbench) -> Workbench:
    server.routes = {"/sessions/refresh": tokens(2), "/sessions": tokens(1), "/account": ME}
    return workbench.login("alice", PASSWORD)


def test_a_session_comes_before_the_key_and_leaves_it_as_it_was(
    server: ScriptedServer, alice: Workbench
) -> None:
    alice.me()
    server.routes["/sessions"] = answer({"ended": 1})
    alice.logout()
    alice.me()
    assert bearers(server) == [None, "Bearer eyJ-1", "Bearer eyJ-1", "Bearer tgw-secret"]


def test_a_token_that_was_refused_is_renewed_and_the_call_sent_again(
    server: ScriptedServer, alice: Workbench
) -> None:
    server.routes.pop("/account")
    server.script = [REFUSED, REFUSED, REFUSED, ME]
    assert alice.me().username == "alice"
    assert bearers(server)[1:] == ["Bearer eyJ-1", None, "Bearer eyJ-2"]
    assert server.seen[2].json == {"refresh_token": "tgr_1"}


def test_a_token_is_renewed_before_it_ends(server: ScriptedServer, workbench: Workbench) -> None:
    server.routes = {"/sessions/refresh": tokens(2), "/sessions": tokens(1, expires_in=0.0), "/account": ME}
    workbench.login("alice", PASSWORD).me()
    assert bearers(server) == [None, None, "Bearer eyJ-2"]


def test_many_threads_use_a_refresh_token_once(
    server: ScriptedServer, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes = {"/sessions/refresh": tokens(2), "/sessions": tokens(1, expires_in=0.0), "/account": ME}
    workbench.login("alice", PASSWORD)
    threads = [threading.Thread(target=workbench.me) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("/refresh" in seen.path for seen in server.seen) == 1


def test_a_refresh_that_was_not_answered_is_asked_for_again(server: ScriptedServer, alice: Workbench) -> None:
    server.routes = {"/account": ME}
    server.script = [hang_up, hang_up, tokens(2)]
    session = alice._accounts.session
    assert session is not None
    session._renew_at = 0.0
    assert alice.me().username == "alice"
    assert [seen.json for seen in server.seen[1:3]] == [{"refresh_token": "tgr_1"}] * 2


def test_an_ended_session_never_falls_back_to_the_key(server: ScriptedServer, alice: Workbench) -> None:
    server.routes = {"/sessions/refresh": REFUSED, "/account": REFUSED}
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="alice's session has ended"):
            alice.me()
    assert len(server.seen) == 3
    assert "Bearer tgw-secret" not in bearers(server)
    assert "(ended)" in repr(alice)


def test_one_workbench_is_one_person(server: ScriptedServer, alice: Workbench) -> None:
    with pytest.raises(Refused, match="alice is signed in"):
        alice.login("bob", PASSWORD)
    assert alice.login("alice", PASSWORD) is alice


def test_a_wrong_password_is_said_in_words_of_its_own(server: ScriptedServer, workbench: Workbench) -> None:
    message = "no account has this name and this password"
    server.script = [refusal("AUTHENTICATION_REQUIRED", 401, message, kind="WrongPassword")]
    with pytest.raises(WrongPassword, match=f"^{message}$"):
        workbench.login("alice", "not it")


def test_neither_password_nor_token_is_ever_shown(server: ScriptedServer, alice: Workbench) -> None:
    session = alice._accounts.session
    body = Body.of_json({"password": PASSWORD})
    call = Call("POST", "/workbench/v1/sessions", body=body)
    shown = repr([alice, session, accounts.Tokens("alice", "eyJ-1", "tgr_1", 1.0), body, call])
    assert "alice" in shown
    for secret in (PASSWORD, "eyJ-", "tgr_"):
        assert secret not in shown


def test_a_password_is_kept_nowhere(alice: Workbench) -> None:
    seen, waiting = set[int](), [object(), alice._accounts, alice._connection]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        assert thing != PASSWORD
        members = getattr(thing, "__dict__", {}) if not isinstance(thing, dict) else thing
        waiting += [*members.values()]
        waiting += [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
