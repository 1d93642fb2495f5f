"""Checkpoints: weights, optimizer state and ledger lineage in one sealed file, written at step borders only.

The noise generator's state is never part of it: replaying noise would let it be subtracted.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from sqlmodel import Session, col, select

from tg_workbench.datasets import Ledger
from tg_workbench.datasets.ledger import join
from tg_workbench.errors import ArtifactNotFound, NotFound, SealBroken, WorkbenchError
from tg_workbench.events import CheckpointSaved, Events
from tg_workbench.execution import Fence
from tg_workbench.security import Vault
from tg_workbench.storage import Blobs, Database, LeftBlobs
from tg_workbench.training.sealed import Context, opened, put
from tg_workbench.training.tables import Artifact, TrainingClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An opened checkpoint."""

    artifact: Artifact
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training client, as its worker writes and reads them."""

    def __init__(
        self, client: TrainingClient, database: Database, blobs: Blobs, home: Path, fence: Fence
    ) -> None:
        """`home`: where the key-encryption keys lie."""
        self.client = client
        self.database = database
        self.blobs = blobs
        self.vault = Vault(blobs, home)
        self.fence = fence

    def save(
        self,
        tensors: Mapping[str, torch.Tensor],
        metadata: dict[str, Any],
        *,
        step: int,
        lineage: Mapping[str, int],
        automatic: bool = False,
        details: dict[str, Any] | None = None,
        dp_metrics: dict[str, Any] | None = None,
    ) -> Artifact:
        """Seal and store a checkpoint. Raises StorageFull; then nothing has changed."""
        artifact_id = f"art-{uuid.uuid4()}"
        body = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        with self.database.read() as session:
            lineage = join(lineage, {self.client.id: Ledger(session).newest(self.client.id)})
        head = {"step": step, "lineage": dict(lineage), "metadata": metadata}
        context = Context(artifact_id, self.client.tenant_id, self.client.id)
        with self.database.write() as session:
            key = self.vault.key_for(session, self.client.tenant_id)
        announce = partial(LeftBlobs.announce, self.database, self.blobs, hold=self.fence.hold)
        blob = put(self.vault, key, context, (head, body), announce)
        artifact = Artifact(
            id=artifact_id,
            client_id=self.client.id,
            owner_id=self.client.owner_id,
            tenant_id=self.client.tenant_id,
            step=step,
            automatic=automatic,
            size_bytes=self.vault.size_bytes(blob),
            blob=blob,
            key_id=key.key_id,
            content_hash=f"sha256:{blob}",
            lineage=dict(lineage),
            details=details or {},
            dp_metrics=dp_metrics,
        )
        self._store(artifact)
        return artifact

    def load(self, artifact_id: str) -> Loaded:
        """Open a checkpoint of the same owner. Raises ArtifactNotFound, SealBroken."""
        with self.database.read() as session:
            artifact = session.get(Artifact, artifact_id)
            if artifact is None or artifact.owner_id != self.client.owner_id:
                raise ArtifactNotFound
            held = opened(session, self.vault, artifact)
        try:
            return Loaded(artifact, safetensors.torch.load(held.tensors), held.metadata)
        except safetensors.SafetensorError as failure:
            raise SealBroken from failure

    def restart_point(self, client: TrainingClient) -> Loaded | None:
        """The client's last checkpoint, automatic or asked for: the one its row names, whatever the time.

        When that one does not open any more, the newest before it that does. None before the first; raises
        what opening the last one raised when there is no other.
        """
        if client.last_checkpoint is None:
            return None
        newest: str = client.last_checkpoint["artifact_id"]
        try:
            return self.load(newest)
        except (NotFound, SealBroken) as failure:
            log.warning("checkpoint %s does not open (%s)", newest, type(failure).__name__)
            return self._older_that_opens(newest, failure)

    def _older_that_opens(self, newest: str, failure: WorkbenchError) -> Loaded:
        with self.database.read() as session:
            query = select(Artifact.id).where(Artifact.client_id == self.client.id, Artifact.id != newest)
            others = list(session.exec(query.order_by(col(Artifact.created_at).desc())))
        for artifact_id in others:
            with contextlib.suppress(NotFound, SealBroken):
                loaded = self.load(artifact_id)
                if loaded.metadata.get("has_optimizer"):
                    return loaded
        raise failure

    def forget(self, artifact_id: str) -> None:
        """Drop a checkpoint that is not needed any more. Raises Fenced."""
        with self.database.write() as session:
            self.fence.hold(session)
            artifact = session.get(Artifact, artifact_id)
            if artifact is None or artifact.client_id != self.client.id:
                return
            session.delete(artifact)
            LeftBlobs(session, self.blobs).forget([artifact.blob])

    def forget_all_but(self, newest: int, *, keep: str | None = None) -> None:
        """Drop the older ones of those that are not automatic, and not the one to `keep`. Raises Fenced."""
        with self.database.read() as session:
            query = select(Artifact.id).where(
                Artifact.client_id == self.client.id, col(Artifact.automatic).is_(False), Artifact.id != keep
            )
            found = list(session.exec(query.order_by(col(Artifact.created_at).desc())))
        for artifact_id in found[newest:]:
            self.forget(artifact_id)

    def _store(self, artifact: Artifact) -> None:
        """Announce the checkpoint; an automatic one takes the place of the automatic one before it."""
        summary = {
            "artifact_id": artifact.id,
            "step": artifact.step,
            "automatic": artifact.automatic,
            "created_at": artifact.created_at,
        }
        with self.database.write() as session:
            self.fence.hold(session)
            replaced = _automatic(session, self.client.id) if artifact.automatic else []
            for old in replaced:
                session.delete(old)
            left = LeftBlobs(session, self.blobs)
            left.named([artifact.blob])
            left.forget(old.blob for old in replaced)
            session.add(artifact)
            client = session.get_one(TrainingClient, self.client.id)
            client.last_checkpoint = summary
            session.add(client)
            if not artifact.automatic:
                Events(session).record(self.client.id, CheckpointSaved(artifact.id, artifact.step, False))


def forget_automatic(database: Database, blobs: Blobs, fence: Fence) -> None:
    """Drop the checkpoints that nobody asked for: the fence's client was deleted. Raises Fenced."""
    with database.write() as session:
        fence.hold(session)
        forgotten = _automatic(session, fence.work_id)
        for artifact in forgotten:
            session.delete(artifact)
        client = session.get_one(TrainingClient, fence.work_id)
        if client.last_checkpoint is not None and client.last_checkpoint["automatic"]:
            client.last_checkpoint = None
            session.add(client)
        LeftBlobs(session, blobs).forget(artifact.blob for artifact in forgotten)


def _automatic(session: Session, client_id: str) -> list[Artifact]:
    query = select(Artifact).where(Artifact.client_id == client_id, col(Artifact.automatic))
    return list(session.exec(query))
