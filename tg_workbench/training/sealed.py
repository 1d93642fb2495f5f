"""Sealed checkpoints: a line of JSON, then safetensors, in the vault and bound to what they belong to.

Needs no torch, so that the API can open one as well. The seal binds the bytes to their artifact, tenant and
client: an edited, swapped or foreign file does not open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from tg_workbench.errors import SealBroken
from tg_workbench.security import DataKey, Vault
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
        """As the vault takes it."""
        return f"artifact={self.artifact_id}|tenant={self.tenant_id}|client={self.client_id}".encode()


def put(
    vault: Vault,
    key: DataKey,
    context: Context,
    content: tuple[Mapping[str, Any], bytes],
    announce: Callable[[str], object] | None = None,
) -> str:
    """Store JSON and tensors under one seal; the blob's name, which `announce` is told before.

    Raises StorageFull.
    """
    head, tensors = content
    line = json.dumps({"format": FORMAT, **head}).encode() + b"\n"
    return vault.put(key, (line, tensors), context.as_bytes(), announce)


def opened(session: Session, vault: Vault, artifact: Artifact) -> Opened:
    """What `artifact` holds. Raises SealBroken, NotFound."""
    key = vault.key(session, artifact.key_id)
    context = Context(artifact.id, artifact.tenant_id, artifact.client_id)
    head, _, tensors = vault.read(key, artifact.blob, context.as_bytes()).partition(b"\n")
    try:
        return Opened(json.loads(head)["metadata"], tensors)
    except (ValueError, KeyError) as failure:
        raise SealBroken from failure
