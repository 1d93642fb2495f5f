"""What a job and its dataset may be to each other, said as soon as both are known.

Refused at once is what its worker could only refuse later.
"""

from __future__ import annotations

import json
from dataclasses import replace

from tg_workbench.datasets import Dataset
from tg_workbench.errors import InvalidField, PrivacyRefused
from tg_workbench.training.admission import check
from tg_workbench.training.job_specs import BALANCED, JobSpec
from tg_workbench.training.specs import LANGUAGE_MODELS, ROW_MODELS

NOISY_STOP = (
    "early stopping watches the noisy training loss, which is charged together with the gradient: on a "
    "protected dataset no measure of its rows may steer the training"
)
LAST_STEP = "the model is that of the last step: choosing the best would look at protected rows"


def check_job(spec: JobSpec, dataset: Dataset) -> list[str]:
    """What is to be known beforehand. Raises InvalidRequest, UnknownModel and PrivacyRefused."""
    is_protected = dataset.privacy == "protected"
    if is_protected and spec.seed is not None:
        raise PrivacyRefused(
            "seed: a training on a protected dataset is never seeded, for its noise and its draws must be "
            "unknown to everybody; leave seed out"
        )
    if is_protected and spec.class_weights == BALANCED:
        raise PrivacyRefused(
            "class_weights: 'balanced' counts the protected rows of each class; give numbers of your own"
        )
    _check_kind(spec, dataset)
    steps = spec.epochs * max(1, dataset.members // spec.batch_size)
    check(replace(spec.as_client(), max_steps=steps), dataset)
    return [NOISY_STOP, LAST_STEP] if is_protected and spec.early_stopping is not None else []


def _check_kind(spec: JobSpec, dataset: Dataset) -> None:
    """Texts are for language models, rows for the others."""
    tensors = json.loads(dataset.tensors) if dataset.tensors else {}
    is_text = dataset.format == "texts" or "input_ids" in tensors
    if is_text and spec.model_type in ROW_MODELS:
        raise InvalidField(
            "model_type", f"The dataset holds texts: use a language model, such as {LANGUAGE_MODELS[0]}"
        )
    if not is_text and spec.model_type in LANGUAGE_MODELS:
        raise InvalidField("model_type", f"The dataset holds rows: use one of {', '.join(ROW_MODELS)}")
