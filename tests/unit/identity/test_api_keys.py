"""An API key stands for whom it was issued to, until it expires or is revoked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import Session, select

from tg_workbench.errors import ApiKeyNotFound, IdempotencyConflict, InvalidRequest, PermissionDenied
from tg_workbench.identity import LOCAL_PRINCIPAL, ApiKey, ApiKeys, Principal

BOB = Principal("bob", "bobs", frozenset({"read", "keys"}))


def test_an_issued_key_stands_for_its_owner_with_its_scopes(session: Session) -> None:
    key, secret = ApiKeys(session).issue(LOCAL_PRINCIPAL, "laptop", ["train", "read"])
    assert ApiKeys(session).principal_for(secret) == Principal("local", "local", frozenset({"read", "train"}))
    assert key.last_four == secret[-4:]


def test_the_secret_is_not_stored(session: Session) -> None:
    _, secret = ApiKeys(session).issue(LOCAL_PRINCIPAL, "laptop", ["read"])
    row = session.exec(select(ApiKey)).one()
    assert secret not in repr(row.model_dump())


def test_an_unknown_key_stands_for_nobody(session: Session) -> None:
    assert ApiKeys(session).principal_for("tgw-" + "A" * 43) is None
    assert ApiKeys(session).principal_for("") is None


def test_an_expired_key_stands_for_nobody(session: Session) -> None:
    _, secret = ApiKeys(session).issue(LOCAL_PRINCIPAL, "old", ["read"], expires_in_days=-1)
    assert ApiKeys(session).principal_for(secret) is None


def test_a_revoked_key_stands_for_nobody_and_is_not_listed(session: Session) -> None:
    key, secret = ApiKeys(session).issue(LOCAL_PRINCIPAL, "lost", ["read"])
    ApiKeys(session).revoke(LOCAL_PRINCIPAL, key.id)
    assert ApiKeys(session).principal_for(secret) is None
    assert ApiKeys(session).list_page(LOCAL_PRINCIPAL) == ([], 0)
    with pytest.raises(ApiKeyNotFound):
        ApiKeys(session).revoke(LOCAL_PRINCIPAL, key.id)


def test_nobody_sees_or_revokes_the_keys_of_others(session: Session) -> None:
    key, _ = ApiKeys(session).issue(LOCAL_PRINCIPAL, "laptop", ["read"])
    assert ApiKeys(session).list_page(BOB) == ([], 0)
    with pytest.raises(ApiKeyNotFound):
        ApiKeys(session).revoke(BOB, key.id)


def test_nobody_gives_away_a_scope_they_do_not_hold(session: Session) -> None:
    with pytest.raises(PermissionDenied, match="train"):
        ApiKeys(session).issue(BOB, "more", ["read", "train"])


@pytest.mark.parametrize("how", [{"key_id": "key-1"}, {"client_id": "app_1", "session_id": "ses-1"}])
def test_neither_a_key_nor_an_application_issues_a_key(session: Session, how: dict[str, Any]) -> None:
    with pytest.raises(PermissionDenied, match="by a person"):
        ApiKeys(session).issue(replace(BOB, **how), "for ever", ["read"])


@pytest.mark.parametrize(("name", "scopes"), [("", ["read"]), ("x", []), ("x", ["root"])])
def test_a_key_needs_a_name_and_known_scopes(session: Session, name: str, scopes: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        ApiKeys(session).issue(LOCAL_PRINCIPAL, name, scopes)


def test_a_repeated_idempotency_key_issues_no_second_key(session: Session) -> None:
    ApiKeys(session).issue(LOCAL_PRINCIPAL, "once", ["read"], idempotency_key="k1")
    with pytest.raises(IdempotencyConflict):
        ApiKeys(session).issue(LOCAL_PRINCIPAL, "once", ["read"], idempotency_key="k1")
