"""The shelf: where the bytes of models lie, each part sealed and bound to its model, tenant and part.

A seal is drawn anew each time, so no two models ever share a blob: who deletes one deletes its blobs.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlmodel import Session

from tg_workbench.models.learned import Learned
from tg_workbench.models.tables import Model
from tg_workbench.security import DataKey, Vault
from tg_workbench.storage import Blobs, Database, LeftBlobs

WEIGHTS, ONNX, HUB = "weights", "onnx", "hub"
"""The parts of a model."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """A model's bytes, stored under an id that is to be its own."""

    model_id: str
    key_id: str
    weights_blob: str
    onnx_blob: str | None
    hub_blob: str | None
    size_bytes: int

    @property
    def blobs(self) -> tuple[str, ...]:
        """Every blob there is."""
        return tuple(blob for blob in (self.weights_blob, self.onnx_blob, self.hub_blob) if blob)


class Shelf:
    """The sealed bytes of models."""

    def __init__(self, blobs: Blobs, home: Path) -> None:
        self.vault = Vault(blobs, home)

    def put_apart(self, database: Database, learned: Learned) -> Shelved:
        """Store a model's bytes before it is registered, so that nobody waits for a lock meanwhile.

        What is put here and not registered is to be dropped with `drop`; of who is killed before, it goes in
        an hour. Raises StorageFull.
        """
        with database.write() as session:
            key = self.vault.key_for(session, learned.tenant_id)
        return self._put(key, learned, partial(LeftBlobs.announce, database, self.vault.blobs))

    def put(self, session: Session, learned: Learned) -> Shelved:
        """The same inside a writing session: for what is small. Raises StorageFull."""
        return self._put(self.vault.key_for(session, learned.tenant_id), learned)

    def drop(self, blobs: tuple[str, ...]) -> None:
        """Forget blobs; forgetting them twice is fine."""
        for blob in blobs:
            self.vault.blobs.delete(blob)

    def pieces(self, session: Session, model: Model, part: str) -> Iterator[bytes]:
        """A part's bytes, one piece at a time. Raises NotFound, SealBroken."""
        blob = {WEIGHTS: model.weights_blob, ONNX: model.onnx_blob, HUB: model.hub_blob}[part]
        key = self.vault.key(session, model.key_id)
        return self.vault.pieces(key, blob or "", _context(model.id, model.tenant_id, part))

    def read(self, session: Session, model: Model, part: str) -> bytes:
        """All of a part's bytes. Raises NotFound, SealBroken."""
        return b"".join(self.pieces(session, model, part))

    def hub_files(self, session: Session, model: Model) -> dict[str, bytes]:
        """The small files of a Hugging Face folder; none where there is no such folder."""
        if model.hub_blob is None:
            return {}
        told: dict[str, str] = json.loads(self.read(session, model, HUB))
        return {name: base64.b64decode(text) for name, text in told.items()}

    def _put(
        self, key: DataKey, learned: Learned, announce: Callable[[str], object] | None = None
    ) -> Shelved:
        model_id = f"mdl-{uuid.uuid4()}"

        def stored(part: str, content: bytes) -> str:
            context = _context(model_id, learned.tenant_id, part)
            return self.vault.put(key, (content,), context, announce)

        return Shelved(
            model_id=model_id,
            key_id=key.key_id,
            weights_blob=stored(WEIGHTS, learned.weights),
            onnx_blob=None if learned.onnx is None else stored(ONNX, learned.onnx),
            hub_blob=None if learned.hub is None else stored(HUB, _packed(learned.hub)),
            size_bytes=len(learned.weights),
        )


def _context(model_id: str, tenant_id: str, part: str) -> bytes:
    return f"model={model_id}|tenant={tenant_id}|part={part}".encode()


def _packed(files: Mapping[str, bytes]) -> bytes:
    return json.dumps({name: base64.b64encode(content).decode() for name, content in files.items()}).encode()
