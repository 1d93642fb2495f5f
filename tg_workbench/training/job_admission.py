"""What a job and its dataset may be to each other, said as soon as both are known.

Refused at once is what its worker could only refuse later.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

from tg_workbench.datasets import Dataset
from tg_workbench.errors import InvalidField, PrivacyRefused
from tg_workbench.training.admission import check, require_known
from tg_workbench.training.job_specs import BALANCED, JobSpec
from tg_workbench.training.specs import LANGUAGE_MODELS, ROW_MODELS

NOISY_STOP = (
    "early stopping watches the noisy training loss, which is charged together with the gradient: with "
    "differential privacy no measure of the rows may steer the training"
)
LAST_STEP = "the model is that of the last step: choosing the best would look at rows that ε is about"


def check_job(spec: JobSpec, dataset: Dataset) -> list[str]:
    """What is to be known beforehand. Raises InvalidRequest, UnknownModel and PrivacyRefused."""
    is_protected = dataset.privacy == "protected"
    is_private = is_protected or spec.asks_for_privacy
    if is_protected and spec.seed is not None:
        raise PrivacyRefused(
            "seed: a training on a protected dataset is never seeded, for its noise and its draws must be "
            "unknown to everybody; leave seed out"
        )
    if is_private and spec.class_weights == BALANCED:
        raise PrivacyRefused(
            "class_weights: 'balanced' counts the rows of each class, which ε does not cover; give numbers "
            "of your own"
        )
    if is_protected and spec.dp is not None and not spec.dp.enabled:
        raise PrivacyRefused(
            f"dataset {dataset.id} is protected: it is only trained on with differential privacy"
        )
    watched = "" if spec.early_stopping is None else spec.early_stopping.monitor
    if not is_protected and watched == "noisy_loss" and not spec.asks_for_privacy:
        raise InvalidField("early_stopping.monitor", "There is no noisy_loss without differential privacy")
    require_known(spec.model_type)
    if dataset.is_ready:
        _check_rows(spec, dataset)
    stopping = [NOISY_STOP, LAST_STEP] if is_private and spec.early_stopping is not None else []
    return [*stopping, *_target_warnings(dataset)]


def _target_warnings(dataset: Dataset) -> list[str]:
    """A protected set tells nobody how large the numbers are that are to be predicted."""
    encoding = dataset.encoding or {}
    if encoding.get("task") != "regression" or encoding.get("target_number") is not None:
        return []
    return [
        f"column {encoding.get('target')} is learned as it is, for no range was declared for it: numbers far "
        "from 0, or much larger than 1, are learned badly. Upload the dataset again, with the column's "
        "smallest and largest value in ranges"
    ]


def _check_rows(spec: JobSpec, dataset: Dataset) -> None:
    """What can be known once the rows are there."""
    _check_kind(spec, dataset)
    steps = spec.epochs * math.ceil(dataset.members / spec.batch_size)
    if spec.schedule.warmup_steps > steps:
        raise InvalidField("schedule.warmup_steps", f"Must be at most {steps}: the job has no more steps")
    names = (dataset.encoding or {}).get("class_names")
    weights = spec.class_weights
    if names and weights is not None and weights != BALANCED and len(weights) != len(names):
        raise InvalidField("class_weights", f"Must be {len(names)} numbers, one for each class")
    check(replace(spec.as_client(), max_steps=steps), dataset)


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
    task = (dataset.encoding or {}).get("task")
    if task == "classification" and spec.loss not in (None, "cross_entropy"):
        raise InvalidField("loss", "The dataset has classes: use cross_entropy, or leave it out")
    if task == "regression":
        _check_number(spec, dataset)


def _check_number(spec: JobSpec, dataset: Dataset) -> None:
    """Numbers are learned by `mse`; by `bce` only where all of them are known to be chances."""
    if spec.class_weights is not None:
        raise InvalidField("class_weights", "The dataset has no classes")
    if spec.loss == "cross_entropy":
        raise InvalidField("loss", "The dataset's target is a number: use mse, or leave it out")
    if spec.loss != "bce" and spec.model_type != "logistic":
        return
    number = (dataset.encoding or {}).get("target_number") or {}
    low, high = number.get("low"), number.get("high")
    if low is None or high is None or not 0.0 <= low < high <= 1.0:
        raise InvalidField(
            "model_type" if spec.model_type == "logistic" else "loss",
            "The dataset's target is a number: use linear or mlp and mse. Chances are learned as yes or no "
            "where a range within 0 and 1 was declared for them",
        )
