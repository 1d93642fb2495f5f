"""Exports: a checkpoint as the files other programs read, with what its privacy cost beside them.

Adapters become the folder that `peft` writes and loads; a network of rows becomes its weights and its shape.
Bytes are only moved, never computed with: no torch is needed.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from sqlmodel import Session

from tg_workbench.datasets import read_header
from tg_workbench.engine.specs import LoraSpec
from tg_workbench.errors import ArtifactNotFound, InvalidRequest
from tg_workbench.identity import Principal
from tg_workbench.models.exports import ABOUT_PRIVACY, PRIVACY
from tg_workbench.security import Vault
from tg_workbench.storage import Blobs
from tg_workbench.training.sealed import Opened, opened
from tg_workbench.training.tables import Artifact, TrainingClient

MOST_BYTES = 256 << 20
LEARNED = "model/"


class Exports:
    """The checkpoints of a workbench, made ready to be taken elsewhere."""

    def __init__(self, session: Session, blobs: Blobs, home: Path) -> None:
        self.session = session
        self.vault = Vault(blobs, home)

    def archive(self, owner: Principal, artifact_id: str) -> bytes:
        """A zip of the export's files. Raises ArtifactNotFound, SealBroken, InvalidRequest."""
        artifact = self.session.get(Artifact, artifact_id)
        if artifact is None or artifact.owner_id != owner.id:
            raise ArtifactNotFound
        if artifact.size_bytes > MOST_BYTES:
            raise InvalidRequest(
                f"this checkpoint is larger than {MOST_BYTES >> 20} MiB: adapters (lora) and networks of "
                "rows are exported, whole language models are not"
            )
        client = self.session.get_one(TrainingClient, artifact.client_id)
        files = _files(client, artifact, opened(self.session, self.vault, artifact))
        kept = io.BytesIO()
        with zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return kept.getvalue()


def _files(client: TrainingClient, artifact: Artifact, held: Opened) -> dict[str, bytes]:
    lora = client.config.get("lora")
    if lora:
        weights = {"adapter_model.safetensors": _renamed(held.tensors, "base_model.model.")}
        about = {"adapter_config.json": _text(_adapters(client.model_ref, client.config))}
    elif client.config.get("architecture"):
        weights = {"model.safetensors": _renamed(held.tensors, "")}
        about = {"config.json": _text({"model_ref": client.model_ref, **client.config["architecture"]})}
    else:
        raise InvalidRequest(
            "whole language models are not exported: train with lora, and export its adapters"
        )
    return {**weights, **about, "privacy.json": _text(_privacy(client, artifact))}


def _renamed(tensors: bytes, prefix: str) -> bytes:
    """The learned tensors alone, under other names, as safetensors bytes; their content is only copied."""
    length = int.from_bytes(tensors[:8], "little")
    places = json.loads(tensors[8 : 8 + length])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = []
    at = 0
    for name, about in sorted(read_header(tensors).items()):
        if not name.startswith(LEARNED):
            continue
        start, end = places[name]["data_offsets"]
        content.append(tensors[8 + length + start : 8 + length + end])
        header[prefix + name.removeprefix(LEARNED)] = {**about, "data_offsets": [at, at + end - start]}
        at += end - start
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(content)


def _adapters(model_ref: str, config: dict[str, Any]) -> dict[str, Any]:
    """What `peft` needs to put the adapters back; with an architecture they are of a model with a head."""
    adapters = LoraSpec(**{**config["lora"], "target_modules": tuple(config["lora"]["target_modules"])})
    return adapters.for_peft(model_ref, tells_apart=bool(config.get("architecture")))


def _privacy(client: TrainingClient, artifact: Artifact) -> dict[str, Any]:
    """The ε of these weights: what training had spent when they were saved, not what it spends later."""
    told = client.privacy or {"guarantee": "none"}
    said = {name: told.get(name) for name in PRIVACY}
    at_its_step = (artifact.dp_metrics or {}).get("total_epsilon")
    if at_its_step is not None:
        said["spent_epsilon"] = at_its_step
    return {"about": ABOUT_PRIVACY, "artifact_id": artifact.id, "step": artifact.step, **said}


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
