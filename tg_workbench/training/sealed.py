"""Sealed checkpoints as bytes: a line of JSON, then safetensors, encrypted and bound to what they belong to.

Needs no torch, so that the API can open one as well. The seal binds the bytes to their artifact, tenant and
client (associated data): an edited, swapped or foreign file does not open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session

from tg_workbench.crypto import Keyring, open_sealed, seal
from tg_workbench.errors import SealBroken
from tg_workbench.security import DataKey, DataKeys
from tg_workbench.storage import Blobs
from tg_workbench.training.tables import Artifact

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What was under the seal: the trainer's metadata, and tensors in safetensors bytes."""

    metadata: dict[str, Any]
    tensors: bytes


@dataclass(frozen=True, slots=True)
class Context:
    """What a seal is bound to."""

    artifact_id: str
    tenant_id: str
    client_id: str

    def as_bytes(self) -> bytes:
        """As associated data."""
        return f"artifact={self.artifact_id}|tenant={self.tenant_id}|client={self.client_id}".encode()


def key_of(session: Session, home: Path, tenant_id: str) -> DataKey:
    """The key to seal with, made for a tenant that has none: the caller holds a writing session.

    The keyring is read inside the transaction and so after its lock, for it may be rotated meanwhile.
    """
    return DataKeys(session, Keyring.open(home)).current(tenant_id)


def sealed(key: DataKey, context: Context, head: Mapping[str, Any], tensors: bytes) -> bytes:
    """The bytes to store: JSON and tensors under one seal."""
    plain = json.dumps({"format": FORMAT, **head}).encode() + b"\n" + tensors
    return seal(key.key, plain, context.as_bytes())


def opened(session: Session, home: Path, blobs: Blobs, artifact: Artifact) -> Opened:
    """What `artifact` holds. Raises SealBroken, NotFound."""
    key = DataKeys(session, Keyring.open(home)).get(artifact.key_id)
    context = Context(artifact.id, artifact.tenant_id, artifact.client_id)
    plain = open_sealed(key.key, blobs.read(artifact.blob), context.as_bytes())
    head, _, tensors = plain.partition(b"\n")
    try:
        return Opened(json.loads(head)["metadata"], tensors)
    except (ValueError, KeyError) as failure:
        raise SealBroken from failure
