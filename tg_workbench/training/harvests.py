"""The harvest of a job: the model it leaves behind, as the registry takes it. Runs in the worker.

Its measures of a protected dataset are raw and say so; its ε is that of everything on its lineage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import safetensors.torch

from tg_workbench.datasets import Dataset, Ledger
from tg_workbench.datasets.ledger import join
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.engine.onnx_export import to_onnx
from tg_workbench.engine.trainer import Trainer
from tg_workbench.models import Learned
from tg_workbench.training.budget import NO_GUARANTEE
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.operating import Operator
from tg_workbench.training.tables import Job

MODEL = "model/"
"""What the tensors of a state that are the model's own begin with."""
CALLED = {"f1": "f1_score"}
"""What the documents call a measure, where that is not its name here."""


def harvest(operator: Operator, job: Job, dataset: Dataset, measures: Mapping[str, Any]) -> Learned:
    """What the job has learned. `measures`: of the rows held out, or else of those learned from."""
    spec, trainer = JobSpec.from_json(job.spec), operator.trainer
    encoding = dataset.encoding or {}
    return Learned(
        owner_id=job.owner_id,
        tenant_id=job.tenant_id,
        job_id=job.id,
        client_id=job.client_id,
        model_ref=spec.model_type,
        task=_task(trainer, encoding),
        weights=_weights(trainer),
        onnx=to_onnx(trainer),
        hub=_hub(trainer),
        architecture=_architecture(trainer),
        class_names=tuple(encoding["class_names"]) if encoding.get("class_names") else None,
        encoding=encoding or None,
        performance={CALLED.get(name, name): value for name, value in measures.items()},
        training_config=_config(spec),
        dataset_id=dataset.id,
        dataset_version=dataset.version,
        privacy=operator.budget.view() if operator.budget is not None else NO_GUARANTEE,
        lineage=_lineage(operator),
    )


def _weights(trainer: Trainer) -> bytes:
    tensors, _ = trainer.state(include_optimizer=False)
    named = {
        name.removeprefix(MODEL): t.contiguous() for name, t in tensors.items() if name.startswith(MODEL)
    }
    return safetensors.torch.save(named)


def _hub(trainer: Trainer) -> dict[str, bytes] | None:
    """A language model's own description, as transformers writes it."""
    if not isinstance(trainer.network, LanguageModel):
        return None
    config: Any = trainer.network.module.config
    return {"config.json": config.to_json_string().encode()}


def _architecture(trainer: Trainer) -> dict[str, Any]:
    network, lora = trainer.network, trainer.spec.lora
    found: dict[str, Any] = {
        "model_ref": trainer.spec.model_ref,
        "parameters": sum(parameter.numel() for parameter in network.module.parameters()),
        "lora": None
        if lora is None
        else {
            "rank": lora.rank,
            "alpha": lora.alpha,
            "dropout": lora.dropout,
            "target_modules": list(lora.target_modules),
            "bias": lora.bias,
        },
    }
    if isinstance(network, LanguageModel):
        return {**found, "vocabulary_size": network.vocabulary_size}
    shape = trainer.spec.architecture
    hidden = [] if shape is None else list(shape.hidden_sizes)
    inputs = list(network.input_shape)
    return {**found, "input_shape": inputs, "output_classes": network.output_size, "hidden_sizes": hidden}


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
