"""The harvest of a job: the model it leaves behind, as the registry takes it. Runs in the worker.

Its measures of a protected dataset are raw and say so; its ε is that of everything on its lineage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tg_workbench.datasets import Dataset, Ledger
from tg_workbench.datasets.ledger import join
from tg_workbench.engine.blueprints import Blueprint, weights_of
from tg_workbench.engine.hf_folders import to_hf_folder
from tg_workbench.engine.onnx_export import to_onnx
from tg_workbench.engine.trainer import Trainer
from tg_workbench.models import Learned
from tg_workbench.training.budget import NO_GUARANTEE
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.operating import Operator
from tg_workbench.training.specs import ROW_MODELS
from tg_workbench.training.tables import Job

CALLED = {"f1": "f1_score"}
"""What the documents call a measure, where that is not its name here."""


def harvest(operator: Operator, job: Job, dataset: Dataset, measures: Mapping[str, Any]) -> Learned:
    """What the job has learned. `measures`: of the rows held out, or else of those learned from."""
    spec, trainer = JobSpec.from_json(job.spec), operator.trainer
    encoding = dataset.encoding or {}
    blueprint, weights = Blueprint.of(trainer), weights_of(trainer)
    return Learned(
        owner_id=job.owner_id,
        tenant_id=job.tenant_id,
        name=spec.name.strip() or None,
        job_id=job.id,
        client_id=job.client_id,
        model_ref=spec.model_type,
        task=_task(trainer, encoding),
        weights=weights,
        onnx=to_onnx(trainer),
        hub=_hub(blueprint, weights, operator.home),
        architecture=blueprint.as_json(),
        class_names=tuple(encoding["class_names"]) if encoding.get("class_names") else None,
        encoding=encoding or None,
        performance={CALLED.get(name, name): value for name, value in measures.items()},
        training_config=_config(spec),
        dataset_id=dataset.id,
        dataset_version=dataset.version,
        privacy=operator.budget.view() if operator.budget is not None else NO_GUARANTEE,
        lineage=_lineage(operator),
    )


def _hub(blueprint: Blueprint, weights: bytes, home: Path) -> dict[str, bytes] | None:
    """What a Hugging Face folder holds beside the weights; None where these weights make no such folder."""
    if blueprint.model_ref in ROW_MODELS or (blueprint.architecture is not None and blueprint.lora is None):
        return None
    files = to_hf_folder(blueprint, weights, home / "models")
    return {name: content for name, content in files.items() if not name.endswith(".safetensors")}


def _task(trainer: Trainer, encoding: Mapping[str, Any]) -> str:
    if encoding.get("task"):
        return str(encoding["task"])
    if trainer.is_language_model:
        return "language_modeling"
    return "regression" if trainer.loss_name == "mse" else "classification"


def _config(spec: JobSpec) -> dict[str, Any]:
    """What it was asked to be, without what depends on who ran it."""
    left_out = ("name", "model_type", "priority", "gpu_count", "timeout_seconds", "checkpoint_every_steps")
    return {name: value for name, value in spec.as_json().items() if name not in left_out}


def _lineage(operator: Operator) -> dict[str, int]:
    with operator.database.read() as session:
        newest = Ledger(session).newest(operator.client.id)
    return join(operator.lineage, {operator.client.id: newest})
