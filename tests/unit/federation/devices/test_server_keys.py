"""The server's own keys: sealed where they lie, and good for a while after the next ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import Session

from tg_workbench.crypto.hpke import SealingKey
from tg_workbench.crypto.signatures import VerifyingKey
from tg_workbench.errors import SealBroken
from tg_workbench.federation.devices import ServerKeys
from tg_workbench.federation.devices.device_keys import DAY_SECONDS


@pytest.fixture
def keys(session: Session, tmp_path: Path) -> ServerKeys:
    return ServerKeys(session, tmp_path)


def test_they_open_and_sign_what_their_public_halves_say(keys: ServerKeys) -> None:
    key = keys.current()
    sealed = SealingKey.from_bytes(key.encryption_key).seal(b"update", b"info")
    assert keys.opening_key(key).open(sealed, b"info") == b"update"
    signature = keys.signing_key(key).sign(b"receipt", b"context")
    assert VerifyingKey.from_bytes(key.signing_key).verifies(signature, b"receipt", b"context")


def test_they_are_made_once_and_changed_when_they_are_due(keys: ServerKeys) -> None:
    assert keys.newest() is None
    assert keys.rotate_when_due() is None
    first = keys.current()
    assert keys.current().id == first.id
    first.created_at -= 30 * DAY_SECONDS
    second = keys.rotate_when_due()
    assert second is not None
    assert (second.version, first.status) == ("v2.0", "rotating")
    assert [key.version for key in keys.good()] == ["v2.0", "v1.0"]
    keys.rotate()
    assert [key.version for key in keys.good()] == ["v3.0", "v2.0"]
    assert keys.opening_key(first).seed != keys.opening_key(second).seed


def test_one_version_cannot_be_passed_off_as_another(keys: ServerKeys) -> None:
    first, second = keys.current(), keys.rotate()
    first.sealed = second.sealed
    with pytest.raises(SealBroken):
        keys.signing_key(first)
