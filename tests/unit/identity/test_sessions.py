"""A session goes on by its refresh tokens, and ends for good when one of them turns out to be stolen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlmodel import Session, select

from tests.unit.identity.conftest import Town
from tg_workbench.crypto.access_tokens import AccessToken
from tg_workbench.errors import PermissionDenied, SessionNotFound
from tg_workbench.identity import Memberships, Principal, Sessions
from tg_workbench.identity.tables import RefreshToken, UserSession


@pytest.fixture
def opened(session: Session, alice: Principal) -> tuple[str, str]:
    """A session of Alice's and its first refresh token."""
    place = Memberships(session).find(alice.user_id or "")
    assert place is not None
    row, token = Sessions(session).begin(place)
    return row.id, token


def lives(session: Session, opened: tuple[str, str]) -> bool:
    return Sessions(session).principal(opened[0]) is not None


def refreshed(session: Session, token: str, *, rotating: bool = False) -> str | None:
    found = Sessions(session).refresh(token, rotating=rotating)
    return None if found is None else found[1]


def test_secrets_are_not_stored(session: Session, opened: tuple[str, str]) -> None:
    rows = session.exec(select(RefreshToken)).all()
    assert all(opened[1] not in repr(row.model_dump()) for row in rows)


def test_a_rotated_token_that_comes_back_ends_the_session(session: Session, opened: tuple[str, str]) -> None:
    second = refreshed(session, opened[1], rotating=True)
    assert second is not None
    assert refreshed(session, second, rotating=True) is not None
    assert refreshed(session, opened[1], rotating=True) is None
    assert not lives(session, opened)


def test_where_rotation_is_asked_for_no_token_is_good_twice(
    session: Session, opened: tuple[str, str]
) -> None:
    second = refreshed(session, opened[1], rotating=True)
    assert refreshed(session, opened[1], rotating=True) is None
    assert not lives(session, opened)
    assert second is not None
    assert refreshed(session, second, rotating=True) is None


def test_a_session_that_rotated_once_rotates_at_every_door(session: Session, opened: tuple[str, str]) -> None:
    second = refreshed(session, opened[1], rotating=True)
    assert second is not None
    third = refreshed(session, second)
    assert third is not None
    assert refreshed(session, second) is None
    assert not lives(session, opened)


def test_a_client_that_knows_no_rotation_goes_on_with_its_first_token(
    session: Session, opened: tuple[str, str]
) -> None:
    assert all(refreshed(session, opened[1]) for _ in range(5))
    assert lives(session, opened)


def test_an_answer_that_was_lost_costs_nothing(session: Session, opened: tuple[str, str]) -> None:
    refreshed(session, opened[1])  # lost on the way
    second = refreshed(session, opened[1])
    assert second is not None
    assert refreshed(session, second)
    assert lives(session, opened)


def test_a_client_that_rotates_finds_its_thief(session: Session, opened: tuple[str, str]) -> None:
    second = refreshed(session, opened[1])
    assert second is not None
    assert refreshed(session, opened[1]) is not None  # the thief, before the client has shown that it rotates
    assert refreshed(session, second) is None  # the client: what it was given was superseded
    assert not lives(session, opened)


def test_after_rotation_the_first_token_ends_the_session(session: Session, opened: tuple[str, str]) -> None:
    second = refreshed(session, opened[1])
    assert second is not None
    assert refreshed(session, second)
    assert refreshed(session, opened[1]) is None
    assert not lives(session, opened)


@pytest.mark.parametrize("token", ["", "tgr_", "tgr_" + "A" * 43, "\ud800"])
def test_an_unknown_token_refreshes_nothing_and_ends_nothing(
    session: Session, opened: tuple[str, str], token: str
) -> None:
    assert refreshed(session, token) is None
    assert lives(session, opened)


def test_an_access_token_holds_for_its_own_session_alone(
    session: Session, alice: Principal, bob: Principal
) -> None:
    token = AccessToken(alice.user_id or "", alice.tenant_id, frozenset({"read"}), alice.session_id or "")
    found = Sessions(session).principal_for(token)
    assert found == replace(alice, scopes=frozenset({"read"}))
    for other in (
        replace(token, session_id=bob.session_id or ""),
        replace(token, user_id=bob.user_id or ""),
        replace(token, tenant_id=bob.tenant_id),
        replace(token, session_id="ses-none"),
    ):
        assert Sessions(session).principal_for(other) is None


def test_an_application_may_do_what_it_was_let_in_for(session: Session, alice: Principal) -> None:
    place = Memberships(session).find(alice.user_id or "")
    assert place is not None
    row, token = Sessions(session).begin(place, scopes="read admin monitoring", client_id="app")
    assert Sessions(session).principal(row.id).scopes == {"read", "admin"}  # type: ignore[union-attr]
    assert Sessions(session).refresh(token, rotating=True) is None  # not from this application
    assert Sessions(session).refresh(token, rotating=True, client_id="app") is not None


def test_signing_out_everywhere_ends_every_session(
    session: Session, town: Town, alice: Principal, bob: Principal
) -> None:
    town.principal(alice.user_id, alice.tenant_id)
    assert Sessions(session).list_page(alice)[1] == 2
    assert Sessions(session).end_all(alice.user_id or "", keep=alice.session_id) == 1
    assert Sessions(session).end_all(alice.user_id or "") == 1
    assert Sessions(session).list_page(alice) == ([], 0)
    assert Sessions(session).principal(bob.session_id or "") is not None


def test_a_key_neither_lists_nor_ends_sessions(session: Session, alice: Principal) -> None:
    key = replace(alice, session_id=None, key_id="key-1")
    for forbidden in (
        lambda: Sessions(session).list_page(key),
        lambda: Sessions(session).end(key, alice.session_id or ""),
        lambda: Sessions(session).end_everywhere(key),
    ):
        with pytest.raises(PermissionDenied, match="API key"):
            forbidden()
    assert Sessions(session).principal(alice.session_id or "") is not None


def test_an_application_sees_its_own_session_alone(session: Session, town: Town, alice: Principal) -> None:
    town.principal(alice.user_id, alice.tenant_id)
    application = replace(alice, client_id="app")
    assert [row.id for row in Sessions(session).list_page(application)[0]] == [alice.session_id]


def test_nobody_signs_others_out(session: Session, alice: Principal, bob: Principal) -> None:
    with pytest.raises(SessionNotFound):
        Sessions(session).end(bob, alice.session_id or "")
    Sessions(session).end(alice, alice.session_id or "")
    with pytest.raises(SessionNotFound):
        Sessions(session).end(alice, alice.session_id or "")


def test_a_session_ends_by_itself_and_is_forgotten_later(session: Session, opened: tuple[str, str]) -> None:
    row = session.get_one(UserSession, opened[0])
    row.expires_at = 1.0
    session.add(row)
    session.flush()
    assert not lives(session, opened)
    assert refreshed(session, opened[1]) is None
    Sessions(session).forget_ended(2.0)
    session.expire_all()
    assert session.get(UserSession, opened[0]) is None
    assert len(session.exec(select(RefreshToken)).all()) == 1  # Alice's own
