"""API keys have a form, a hash, and a comparison that does not tell where two differ."""

from __future__ import annotations

from tg_workbench.crypto import tokens


def test_new_keys_have_our_form_and_differ() -> None:
    keys = {tokens.new_api_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(tokens.looks_like_api_key(key) for key in keys)


def test_a_tinker_client_may_put_its_prefix_before_the_key() -> None:
    key = tokens.new_api_key()
    assert tokens.bare(f"tml-{key}") == key == tokens.bare(key)


def test_what_is_not_a_key_does_not_look_like_one() -> None:
    for text in ["", "tgw-", "tgw-short", tokens.new_api_key() + "x", "eyJhbGciOi", "tgw-" + "é" * 43]:
        assert not tokens.looks_like_api_key(text)


def test_secrets_are_compared_whatever_they_hold() -> None:
    assert tokens.same("schlüssel", "schlüssel")
    assert not tokens.same("schlüssel", "schlussel")
    assert not tokens.same("\udcff", "")


def test_the_stored_digest_is_sha256() -> None:
    assert tokens.digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
