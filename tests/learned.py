"""Models put into a workbench's registry, without a job that learns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tests.contracts.people import Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.engine.architectures import build
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.onnx_export import to_onnx
from tg_workbench.engine.specs import Architecture
from tg_workbench.identity import LOCAL_PRINCIPAL, Memberships, Principal
from tg_workbench.models import Learned, Models
from tg_workbench.storage import Blobs, Database

CLASSES = ("cat", "dog", "owl")
INPUTS = 4


def mlp_onnx(inputs: int = INPUTS, outputs: int = len(CLASSES), hidden: tuple[int, ...] = (64,)) -> bytes:
    """A network with random weights."""
    onnx = to_onnx(build("mlp", Architecture((inputs,), outputs, hidden), Path()))
    assert onnx is not None
    return onnx


def sums_onnx() -> bytes:
    """A network whose answer anybody can compute: class n scores the n-th number of the row."""
    network = torch.nn.Linear(INPUTS, len(CLASSES), bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.eye(INPUTS)[: len(CLASSES)])
    onnx = to_onnx(RowModel(network, (INPUTS,), len(CLASSES)))
    assert onnx is not None
    return onnx


def tiny_llama() -> dict[str, Any]:
    """What is to be said of a language model, for `put_model`."""
    module = build("tiny-llama", None, Path()).module
    weights = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    return {
        "model_ref": "tiny-llama",
        "task": "language_modeling",
        "weights": safetensors.torch.save(weights),
        "onnx": None,
        "architecture": {"model_ref": "tiny-llama"},
        "class_names": None,
    }


def scattering() -> dict[str, Any]:
    """The same of a network of images that has no ONNX."""
    network = build("scattering", Architecture((1, 8, 8), len(CLASSES)), Path())
    weights = {name: parameter.detach().clone() for name, parameter in network.module.named_parameters()}
    return {
        "model_ref": "scattering",
        "weights": safetensors.torch.save(weights),
        "onnx": None,
        "architecture": {"model_ref": "scattering", "input_shape": [1, 8, 8], "output_classes": len(CLASSES)},
    }


def principal_of(server: WorkbenchServer, person: Person) -> Principal:
    """Whom the rooms know a person as."""
    database = Database(server.database_url)
    with database.read() as session:
        place = Memberships(session).find(person.user_id, person.organization_id)
    database.close()
    assert place is not None
    return Principal(place.id, place.organization_id, frozenset())


def put_model(server: WorkbenchServer, owner: Principal = LOCAL_PRINCIPAL, **more: Any) -> str:
    """A model of `owner` in the registry; what is named replaces what is said of it."""
    told: dict[str, Any] = {
        "model_ref": "mlp",
        "task": "classification",
        "weights": safetensors.torch.save({"weight": torch.zeros(1)}),
        "onnx": sums_onnx(),
        "architecture": {"model_ref": "mlp", "input_shape": [INPUTS], "output_classes": len(CLASSES)},
        "class_names": CLASSES,
        **more,
    }
    database = Database(server.database_url)
    with database.write() as session:
        models = Models(session, Blobs(server.home / "blobs"), server.home)
        model = models.register(Learned(owner_id=owner.id, tenant_id=owner.tenant_id, **told))
    database.close()
    return model.id
