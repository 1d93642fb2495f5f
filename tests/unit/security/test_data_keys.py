"""Each tenant has a data key of its own; without the keyring that wrapped it, it opens nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import Session, select

from tg_workbench.crypto import Keyring
from tg_workbench.errors import SealBroken
from tg_workbench.security import DataKeys
from tg_workbench.security.tables import WrappedDataKey


def test_a_tenant_keeps_its_key(session: Session, tmp_path: Path) -> None:
    keys = DataKeys(session, Keyring.open(tmp_path))
    key = keys.current("alice")
    assert keys.current("alice") == key == keys.get(key.key_id)
    assert key.key_id.startswith("dek-")


def test_tenants_do_not_share_keys(session: Session, tmp_path: Path) -> None:
    keys = DataKeys(session, Keyring.open(tmp_path))
    assert keys.current("alice").key != keys.current("bob").key


def test_the_key_is_stored_wrapped_and_not_printed(session: Session, tmp_path: Path) -> None:
    key = DataKeys(session, Keyring.open(tmp_path)).current("alice")
    assert key.key not in session.exec(select(WrappedDataKey)).one().wrapped
    assert key.key.hex() not in repr(key)
    assert repr(key.key) not in repr(key)


def test_another_keyring_opens_no_key(session: Session, tmp_path: Path) -> None:
    key = DataKeys(session, Keyring.open(tmp_path)).current("alice")
    with pytest.raises(SealBroken):
        DataKeys(session, Keyring.open(tmp_path / "elsewhere")).get(key.key_id)


def test_a_wrapped_key_cannot_be_given_to_another_tenant(session: Session, tmp_path: Path) -> None:
    keys = DataKeys(session, Keyring.open(tmp_path))
    row = session.get(WrappedDataKey, keys.current("alice").key_id)
    assert row is not None
    row.tenant_id = "bob"
    with pytest.raises(SealBroken):
        keys.get(row.id)


def test_keys_survive_a_rotation_of_the_keyring(session: Session, tmp_path: Path) -> None:
    key = DataKeys(session, Keyring.open(tmp_path)).current("alice")
    rotated = DataKeys(session, Keyring.rotate(tmp_path))
    assert rotated.get(key.key_id) == key
    assert rotated.rewrap() == 1
    assert rotated.get(key.key_id) == key
    assert rotated.rewrap() == 0


def test_an_unknown_key_is_a_broken_seal(session: Session, tmp_path: Path) -> None:
    with pytest.raises(SealBroken):
        DataKeys(session, Keyring.open(tmp_path)).get("dek-unknown")
