"""Models in a running workbench, put there as a job's worker does: through the room, with real weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from sqlmodel import select

from tests.contracts.people import Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.engine.architectures import build
from tg_workbench.engine.specs import Architecture
from tg_workbench.identity import LOCAL_PRINCIPAL, Membership
from tg_workbench.models import Learned, Models
from tg_workbench.storage import Blobs, Database

PRIVATE = {
    "guarantee": "differential_privacy",
    "mode": "sampled",
    "unit": "patient",
    "relation": "add_or_remove_one",
    "accountant": "pld",
    "spent_epsilon": 2.5,
    "delta": 1e-5,
}
FIGURES = {"accuracy": 0.912, "precision": 0.905, "recall": 0.918, "f1_score": 0.911}
ENCODING = {
    "version": 1,
    "kind": "table",
    "task": "classification",
    "columns": [{"type": "number", "name": "age"}, {"type": "category", "name": "<b>|town"}],
    "class_names": ["cat", "dog"],
    "image_shape": [],
    "target": "pet",
}
CONFIG = {"dataset_id": "ds-1", "epochs": 100, "batch_size": 32, "optimizer": "adam", "validation_split": 0.2}


def tensors_of(model_ref: str = "mlp", shape: Architecture | None = None) -> dict[str, torch.Tensor]:
    """The weights of a network of ours that has learned nothing."""
    torch.manual_seed(7)
    network = build(model_ref, shape or Architecture((4,), 2, (8,)), Path())
    return {name: tensor.detach().clone() for name, tensor in network.module.named_parameters()}


class Registry:
    """The models of a running workbench."""

    def __init__(self, server: WorkbenchServer) -> None:
        self.server = server
        self.blobs = Blobs(server.home / "blobs")

    def register(
        self,
        person: Person | None = None,
        tensors: Mapping[str, torch.Tensor] | None = None,
        **more: Any,
    ) -> str:
        """The id of a new model: somebody's, or the local principal's."""
        tensors = tensors or tensors_of()
        database = Database(self.server.database_url)
        try:
            owner_id, tenant_id = self._owner(database, person)
            told: dict[str, Any] = {
                "model_ref": "mlp",
                "task": "classification",
                "weights": safetensors.torch.save({name: one.contiguous() for name, one in tensors.items()}),
                "architecture": {
                    "input_shape": [4],
                    "output_classes": 2,
                    "parameters": sum(tensor.numel() for tensor in tensors.values()),
                    "hidden_sizes": [8],
                },
                "performance": FIGURES,
                "training_config": CONFIG,
                "class_names": ("cat", "dog"),
                "encoding": ENCODING,
            }
            learned = Learned(owner_id=owner_id, tenant_id=tenant_id, **{**told, **more})
            with database.write() as session:
                return Models(session, self.blobs, self.server.home).register(learned).id
        finally:
            database.close()

    def _owner(self, database: Database, person: Person | None) -> tuple[str, str]:
        if person is None:
            return LOCAL_PRINCIPAL.id, LOCAL_PRINCIPAL.tenant_id
        with database.read() as session:
            place = session.exec(select(Membership).where(Membership.user_id == person.user_id)).one()
            return place.id, place.organization_id
