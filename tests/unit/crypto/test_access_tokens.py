"""An access token says whose session it is, for half an hour, and not one bit of it can be changed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tg_workbench.crypto import Keyring
from tg_workbench.crypto.access_tokens import AccessToken, AccessTokens
from tg_workbench.crypto.keyring import SIGNING_FILE
from tg_workbench.errors import Unauthenticated


@pytest.fixture
def alice() -> AccessToken:
    """Hers, made now: whole runs take longer than a token lasts."""
    return AccessToken("alice", "org_1", frozenset({"read", "train"}), "ses-1")


@pytest.fixture
def tokens(tmp_path: Path) -> AccessTokens:
    return AccessTokens(tmp_path)


def test_a_token_says_what_was_put_into_it(tokens: AccessTokens, alice: AccessToken) -> None:
    assert tokens.read(tokens.sign(alice)) == alice
    assert alice.expires_at - alice.issued_at == 1800


def test_its_key_is_made_once_and_is_its_owners_alone(
    tokens: AccessTokens, alice: AccessToken, tmp_path: Path
) -> None:
    signed = tokens.sign(alice)
    assert (tmp_path / "keys" / SIGNING_FILE).stat().st_mode & 0o777 == 0o600
    assert AccessTokens(tmp_path).read(signed) == alice


def test_another_workbench_does_not_believe_it(
    tokens: AccessTokens, alice: AccessToken, tmp_path: Path
) -> None:
    with pytest.raises(Unauthenticated):
        AccessTokens(tmp_path / "other").read(tokens.sign(alice))


def test_a_token_with_any_byte_changed_is_refused(tokens: AccessTokens, alice: AccessToken) -> None:
    signed = tokens.sign(alice)
    for place in range(0, len(signed), 7):
        changed = signed[:place] + ("A" if signed[place] != "A" else "B") + signed[place + 1 :]
        if place == len(signed) - 1:
            continue  # the last character holds bits that no byte has
        with pytest.raises(Unauthenticated):
            tokens.read(changed)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é.é.é", "x" * 10_000, "\0", "e30.e30.e30"])
def test_what_is_no_token_is_refused(tokens: AccessTokens, text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(text)


def test_a_token_ends(tokens: AccessTokens, alice: AccessToken) -> None:
    past = replace(alice, issued_at=int(time.time()) - 1801)
    future = replace(alice, issued_at=int(time.time()) + 60)
    for token in (past, future):
        with pytest.raises(Unauthenticated):
            tokens.read(tokens.sign(token))


def test_no_other_algorithm_kind_or_issuer_is_believed(
    tokens: AccessTokens, alice: AccessToken, tmp_path: Path
) -> None:
    tokens.sign(alice)
    key_id, key = Keyring.open(tmp_path, SIGNING_FILE).newest
    now = int(time.time())
    claims = {
        **{"iss": "tg-workbench", "sub": "alice", "tenant": "org_1", "scope": "read", "sid": "s", "jti": "j"},
        **{"iat": now, "exp": now + 60},
    }

    def made(alg: str = "HS256", typ: str = "at+jwt", **other: object) -> str:
        header = {"alg": alg, "kid": key_id, "typ": typ}
        return jwt.encode(header, claims | other, OctKey.import_key(key), [alg])

    assert tokens.read(made()).user_id == "alice"
    for forged in (made("HS512"), made(typ="JWT"), made(iss="somebody"), made(exp="soon"), made(iat=None)):
        with pytest.raises(Unauthenticated):
            tokens.read(forged)
    head = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"  # {"alg": "none", "typ": "at+jwt"}
    with pytest.raises(Unauthenticated):
        tokens.read(f"{head}.{made().split('.')[1]}.")


def test_rotating_keeps_the_tokens_that_are_out(
    tokens: AccessTokens, alice: AccessToken, tmp_path: Path
) -> None:
    before = tokens.sign(alice)
    other = AccessTokens(tmp_path)
    assert other.read(before) == alice
    Keyring.rotate(tmp_path, SIGNING_FILE)
    after = tokens.sign(alice)
    assert other.read(before) == other.read(after) == alice
    assert before.split(".")[0] != after.split(".")[0]


def test_reading_one_takes_less_than_a_tenth_of_a_millisecond(
    tokens: AccessTokens, alice: AccessToken
) -> None:
    signed = tokens.sign(alice)
    tokens.read(signed)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        tokens.read(signed)
        took.append(time.perf_counter() - began)
    assert min(took) < 100e-6
