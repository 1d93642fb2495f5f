"""Admission: what a training client may be asked to be, said before anything is made of it.

Refused at once is what its worker could only refuse later.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from tg_workbench.datasets import Dataset
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidRequest, PrivacyRefused, UnknownModel
from tg_workbench.training.specs import LANGUAGE_MODELS, MODEL_REFS, ROW_MODELS, ClientSpec, DPSpec

FEWEST_CANARIES = 20
MOST_CANARY_NUMBERS = 1 << 25
"""Canaries are kept in memory, and made there with as many numbers again."""


def check(spec: ClientSpec, dataset: Dataset | None) -> None:
    """Raise UnknownModel, InvalidRequest or PrivacyRefused for what cannot be, or not privately."""
    _check_model(spec)
    if spec.dataset_id is not None and spec.gradient_accumulation_steps > 1:
        raise InvalidRequest(
            "with a dataset_id one draw is one step: ask for a larger batch_size instead of "
            "gradient_accumulation_steps"
        )
    _check_averaging(spec, dataset)
    _check_canaries(spec, dataset)
    if dataset is not None and dataset.privacy == "protected" and spec.dp is not None:
        _check_policy(spec.dp, dataset)
    if spec.dp is not None and spec.dp.enabled:
        _check_unit(spec, spec.dp, dataset)
        _check_noise(spec, spec.dp, dataset)


def require_known(model_ref: str) -> None:
    """Raise UnknownModel for what is neither a name of a model nor a folder that holds one."""
    is_folder = Path(model_ref).is_absolute()
    if model_ref not in MODEL_REFS and not (is_folder and _is_model_folder(Path(model_ref))):
        raise UnknownModel(list(MODEL_REFS))


def _check_model(spec: ClientSpec) -> None:
    require_known(spec.model_ref)
    if spec.model_ref in ROW_MODELS and spec.architecture is None and spec.dataset_id is None:
        raise InvalidRequest(
            f"{spec.model_ref} needs an 'architecture' (input_shape, output_size), or a 'dataset_id' "
            "to take it from"
        )
    if spec.architecture is not None:
        _check_shape(spec.model_ref, spec.architecture)
    if spec.lora is not None and spec.model_ref in MODEL_REFS and spec.model_ref not in LANGUAGE_MODELS:
        raise InvalidRequest(f"{spec.model_ref} has no attention layers for LoRA: leave lora_config out")


def _check_shape(model_ref: str, shape: Architecture) -> None:
    """A network of rows has the shape of its rows; a language model tells classes apart, and needs none."""
    if model_ref in ROW_MODELS and not shape.input_shape:
        raise InvalidRequest(f"{model_ref} needs an 'architecture' with the input_shape of one example")
    if model_ref not in ROW_MODELS and (shape.input_shape or shape.hidden_sizes):
        raise InvalidRequest(
            f"{model_ref} reads text: of an 'architecture' it takes the output_size alone, to tell so many "
            "classes apart"
        )


def _is_model_folder(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # a name that no file system takes, or a folder we may not enter
        return False


def _check_averaging(spec: ClientSpec, dataset: Dataset | None) -> None:
    """A plan over a dataset says how many steps there are; without one the caller must."""
    asked = spec.dp is not None and spec.dp.enabled
    if dataset is None or (dataset.privacy != "protected" and not asked):
        spec.optimizer.average_after(spec.max_steps)


def _check_policy(dp: DPSpec, dataset: Dataset) -> None:
    """What the curator of a protected dataset has settled."""
    if not dp.enabled:
        raise PrivacyRefused(
            f"dataset {dataset.id} is protected: it is only trained on with differential privacy"
        )
    if dp.target_epsilon is not None and dp.target_epsilon > dataset.epsilon_cap:
        raise PrivacyRefused(
            f"target_epsilon {dp.target_epsilon:g} is above the cap of dataset {dataset.id}: ask for at most "
            f"{dataset.epsilon_cap:g}"
        )
    if dp.target_delta is not None and dp.target_delta != dataset.delta:
        raise PrivacyRefused(
            "delta is fixed per dataset so that runs compose: leave target_delta out or give "
            f"{dataset.delta:g}"
        )


def _check_unit(spec: ClientSpec, dp: DPSpec, dataset: Dataset | None) -> None:
    """Whom ε is about must be one thing, known from the start, and what is counted must be countable."""
    if dataset is not None:
        _check_drawn(spec, dp, dataset)
    elif dp.truncated_batch_size is not None:
        raise InvalidRequest(
            "truncated_batch_size is for batches that the server draws: it needs a dataset_id"
        )
    elif dp.max_participations is not None and not dp.counts_participants:
        raise InvalidRequest("max_participations counts those who have ids: set unit to record or unit")
    grouped = dp.unit == "unit" if dataset is None else dataset.units is not None
    if grouped and dp.engine == "opacus-ghost":
        raise InvalidRequest(
            "engine opacus-ghost cannot clip the sum of a unit's gradients: use book-keeping or opacus-hooks"
        )


def _check_drawn(spec: ClientSpec, dp: DPSpec, dataset: Dataset) -> None:
    own = "example" if dataset.units is None else "unit"
    if dp.unit not in (None, own):
        raise PrivacyRefused(
            f"the unit of privacy of dataset {dataset.id} is the {dataset.unit}, as it was handed over: "
            f"leave unit out, or give {own}"
        )
    if dp.max_participations is not None:
        raise InvalidRequest(
            "max_participations is for rows that the caller chooses: here the server draws, set max_steps"
        )
    cut = dp.truncated_batch_size
    if cut is not None and not spec.batch_size <= cut <= dataset.members:
        raise InvalidRequest(
            f"truncated_batch_size must lie between batch_size and {dataset.members}, how many are drawn from"
        )


def _check_noise(spec: ClientSpec, dp: DPSpec, dataset: Dataset | None) -> None:
    """Noise that is to be chosen needs an ε, and how many steps that is for."""
    if dp.noise_multiplier is not None:
        return
    if dp.target_epsilon is None:
        raise InvalidRequest("dp_config needs a noise_multiplier or a target_epsilon")
    if dataset is None and dp.counts_participants and dp.max_participations is None:
        raise InvalidRequest(
            "to choose the noise for a target_epsilon, max_participations must be known: in how many steps "
            f"one {dp.unit} may be. Set it"
        )
    if dataset is None and not dp.counts_participants and spec.max_steps is None:
        raise InvalidRequest("to choose the noise for a target_epsilon, max_steps must be known: set it")


def _check_canaries(spec: ClientSpec, dataset: Dataset | None) -> None:
    """Canaries are learned by the server's own draws, and are few beside the rows."""
    if not spec.audit_canaries:
        return
    if dataset is None:
        raise InvalidRequest(
            "audit_canaries are learned beside a dataset: create the client with a dataset_id"
        )
    if spec.audit_canaries < FEWEST_CANARIES:
        raise InvalidRequest(f"fewer than {FEWEST_CANARIES} audit_canaries prove nothing: ask for more")
    if spec.audit_canaries > dataset.size:
        raise InvalidRequest(f"audit_canaries must not be more than the {dataset.size} rows of the dataset")
    tensors = json.loads(dataset.tensors) if dataset.tensors else {}
    numbers = sum(math.prod(tensor["shape"][1:]) for tensor in tensors.values())
    if spec.audit_canaries * numbers > MOST_CANARY_NUMBERS:
        raise InvalidRequest("so many audit_canaries of this size do not fit in memory: ask for fewer")
    if spec.dp is not None and spec.dp.enabled and spec.dp.noisy_loss_bound is not None:
        raise InvalidRequest(
            "a noisy loss would count the audit_canaries too: leave out noisy_loss_bound or audit_canaries"
        )
    if dataset.units is not None:
        raise InvalidRequest("audit_canaries are single examples, and the rows of this dataset are of units")
    if spec.dp is not None and spec.dp.truncated_batch_size is not None:
        raise InvalidRequest(
            "a cut batch would cut the audit_canaries too: leave out truncated_batch_size or audit_canaries"
        )
