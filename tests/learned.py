"""Models put into a workbench's registry, without a job that learns them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tests.contracts.people import Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.engine.architectures import build
from tg_workbench.engine.onnx_export import to_onnx
from tg_workbench.engine.specs import Architecture
from tg_workbench.identity import LOCAL_PRINCIPAL, Memberships, Principal
from tg_workbench.models import Learned, Models
from tg_workbench.storage import Blobs, Database

CLASSES = ("cat", "dog", "owl")
INPUTS = 4


def mlp_onnx(inputs: int = INPUTS, outputs: int = len(CLASSES)) -> bytes:
    """A network with random weights."""
    onnx = to_onnx(build("mlp", Architecture((inputs,), outputs, (16,)), Path()))
    assert onnx is not None
    return onnx


def sums_onnx() -> bytes:
    """A network whose answer anybody can compute: class n scores the n-th number of the row."""
    network = torch.nn.Linear(INPUTS, len(CLASSES), bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.eye(INPUTS)[: len(CLASSES)])
    written = io.BytesIO()
    axes = {"features": {0: "examples"}, "scores": {0: "examples"}}
    torch.onnx.export(
        network,
        (torch.zeros(2, INPUTS),),
        written,
        dynamo=False,
        input_names=["features"],
        output_names=["scores"],
        dynamic_axes=axes,
    )
    return written.getvalue()


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
