"""Hugging Face folders: a network as the files that transformers, or peft, loads.

Adapters become a folder of peft's, which says of which model they are; a language model, and one that tells
texts apart, become one of transformers'. A network of rows becomes its weights, and its blueprint as
config.json. Files are bytes by their names, and weights are safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from tg_workbench.engine.blueprints import Blueprint
from tg_workbench.engine.networks import LanguageModel, TextClassifier

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def to_hf_folder(
    blueprint: Blueprint, weights: bytes, cache_folder: Path, class_names: tuple[str, ...] | None = None
) -> dict[str, bytes]:
    """The files of a folder, by their names. Raises CheckpointMismatch, and what building it raises."""
    network = blueprint.opened(weights, cache_folder)
    if not isinstance(network, LanguageModel | TextClassifier):
        about = {**blueprint.as_json(), "class_names": class_names}
        return {"config.json": _text(about), "model.safetensors": weights}
    config = _config(network, class_names)
    tokenizer = _tokenizer_files(blueprint.model_ref, cache_folder)
    if blueprint.lora is not None:
        tells_apart = isinstance(network, TextClassifier)
        adapters = blueprint.lora.for_peft(blueprint.model_ref, tells_apart=tells_apart)
        learned = {f"base_model.model.{name}": tensor for name, tensor in load(weights).items()}
        return {
            "adapter_config.json": _text(adapters),
            "adapter_model.safetensors": save(learned, {"format": "pt"}),
            **tokenizer,
        }
    whole = dict(network.module.state_dict())
    return {"config.json": config, "model.safetensors": save(_untied(whole), {"format": "pt"}), **tokenizer}


def _config(network: LanguageModel | TextClassifier, class_names: tuple[str, ...] | None) -> bytes:
    """What transformers builds the same network from."""
    if isinstance(network, LanguageModel):
        held: dict[str, Any] = network.module.config.to_diff_dict()  # type: ignore[union-attr,operator]
        return _text({**held, "architectures": [type(network.module).__name__]})
    trunk = network.module.trunk
    held = trunk.config.to_diff_dict()  # type: ignore[union-attr,operator]
    names = class_names or tuple(f"LABEL_{number}" for number in range(network.output_size))
    family = type(trunk).__name__.removesuffix("Model")
    return _text(
        {
            **held,
            "architectures": [f"{family}ForSequenceClassification"],
            "pad_token_id": network.module.pad_id,
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
        }
    )


def _tokenizer_files(model_ref: str, cache_folder: Path) -> dict[str, bytes]:
    """Those of the folder that the model came from; `tiny-llama` reads bytes and has none."""
    folder = cache_folder / model_ref if not Path(model_ref).is_absolute() else Path(model_ref)
    return {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}


def _untied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without a second name for what is one tensor: it is written once, and transformers ties them again."""
    places: set[int] = set()
    kept = {}
    for name, tensor in tensors.items():
        if tensor.data_ptr() not in places:
            kept[name] = tensor.contiguous()
        places.add(tensor.data_ptr())
    return kept


def _text(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
