"""The harvest of a round: its figures, and at the end of a campaign the model for the registry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tg_workbench.engine.blueprints import Blueprint, weights_of
from tg_workbench.engine.onnx_export import to_onnx
from tg_workbench.engine.specs import OptimizerSpec, TrainerSpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.federation.rounds.global_models import GlobalModel
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation
from tg_workbench.federation.strategies import Outcome
from tg_workbench.models import Learned

TOLD = {"accuracy": 1.0, "loss": 1e6}
"""What devices may tell of their learning, and the largest number that can be meant; none is below 0."""


def figures_of(
    parts: Sequence[Participation],
    weights: Mapping[str, float] | None,
    outcome: Outcome,
    base: GlobalModel,
) -> dict[str, Any]:
    """What a round came to. What devices say of themselves is weighted as their updates are.

    `convergence_metric`: the length of the step in that of the parameters; it falls as the model settles.
    Without `weights`, where ε would not cover them, nothing is told but what the models tell.
    """
    told: dict[str, Any] = {"devices": len(parts)}
    if (stalest := outcome.figures.get("stalest")) is not None:
        told["stalest"] = int(stalest)
    if weights is not None:
        told["samples"] = int(sum(weights.values()))
        for name in TOLD:
            told[f"avg_{name}"] = _mean_of(parts, weights, name)
    length = float(np.linalg.norm(base.parameters))
    step = float(np.linalg.norm(outcome.parameters - base.parameters))
    told["convergence_metric"] = step / length if length > 0 else None
    if weights is None:
        return told
    finite = {name: value for name, value in outcome.figures.items() if math.isfinite(value)}
    return {**told, "strategy": finite}


def harvest(campaign: Campaign, made: GlobalModel, spec: CampaignSpec, privacy: Mapping[str, Any]) -> Learned:
    """What a campaign has learned, as the registry takes it."""
    trainer = Trainer(
        TrainerSpec(
            model_ref=spec.architecture,
            architecture=spec.shape,
            lora=None,
            optimizer=OptimizerSpec(),
            loss=None,
            privacy=None,
            expected_batch_size=None,
            cache_folder=Path(),
        )
    )
    arrays = made.layout.arrays(made.parameters)
    with torch.no_grad():
        for name, parameter in trainer.network.module.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name].copy()))
    local = spec.local
    return Learned(
        owner_id=campaign.owner_id,
        tenant_id=campaign.tenant_id,
        name=spec.name,
        model_ref=spec.architecture,
        task="classification",
        weights=weights_of(trainer),
        onnx=to_onnx(trainer),
        architecture=Blueprint.of(trainer).as_json(),
        training_config={
            "strategy": spec.strategy,
            "rounds": spec.rounds,
            "learning_rate": local.learning_rate,
            "batch_size": local.batch_size,
            "epochs": local.epochs,
        },
        privacy=privacy,
        lineage={"campaign": campaign.id, "model_version": made.version},
    )


def _mean_of(parts: Sequence[Participation], weights: Mapping[str, float], name: str) -> float | None:
    """The mean of what devices told; None when none did. What cannot be meant is left out."""
    told = [
        (value, weights[part.device_id])
        for part in parts
        if (value := (part.metrics or {}).get(name)) is not None and 0 <= value <= TOLD[name]
    ]
    total = sum(weight for _, weight in told)
    return sum(value * weight for value, weight in told) / total if total else None
