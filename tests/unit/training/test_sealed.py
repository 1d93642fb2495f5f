"""A checkpoint opens in its own place, also one that was sealed in one piece, as it used to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlmodel import Session

from tg_workbench.crypto import seal
from tg_workbench.errors import SealBroken
from tg_workbench.security import DataKey, Vault
from tg_workbench.storage import Blobs
from tg_workbench.training.sealed import Context, opened, put
from tg_workbench.training.tables import Artifact

CONTEXT = Context("art-1", "acme", "tc-1")
HEAD = {"metadata": {"step": 3}}
TENSORS = b"\n".join([b"tensors"] * 1000)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(Blobs(tmp_path / "blobs"), tmp_path)


def artifact(key: DataKey, blob: str, artifact_id: str = "art-1") -> Artifact:
    return Artifact(
        id=artifact_id,
        client_id="tc-1",
        owner_id="alice",
        tenant_id="acme",
        step=3,
        size_bytes=1,
        blob=blob,
        key_id=key.key_id,
        content_hash="",
    )


def test_a_checkpoint_opens_in_its_own_place_only(session: Session, vault: Vault) -> None:
    key = vault.key_for(session, "acme")
    blob = put(vault, key, CONTEXT, (HEAD, TENSORS))
    found = opened(session, vault, artifact(key, blob))
    assert (found.metadata, found.tensors) == (HEAD["metadata"], TENSORS)
    with pytest.raises(SealBroken):
        opened(session, vault, artifact(key, blob, "art-2"))


def test_a_checkpoint_of_an_earlier_version_opens(session: Session, vault: Vault) -> None:
    key = vault.key_for(session, "acme")
    plain = json.dumps({"format": 1, **HEAD}).encode() + b"\n" + TENSORS
    context = b"artifact=art-1|tenant=acme|client=tc-1"
    blob = vault.blobs.put(seal(key.key, plain, context))
    found = opened(session, vault, artifact(key, blob))
    assert (found.metadata, found.tensors) == (HEAD["metadata"], TENSORS)
