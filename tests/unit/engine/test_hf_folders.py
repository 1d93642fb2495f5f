from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from tests.unit.engine.test_blueprints import KINDS, learned
from tests.unit.engine.test_language_models import folder  # noqa: F401  (a fixture)
from tg_workbench.engine.architectures import build
from tg_workbench.engine.blueprints import Blueprint, weights_of
from tg_workbench.engine.hf_folders import to_hf_folder
from tg_workbench.engine.networks import LanguageModel, TextClassifier
from tg_workbench.engine.specs import LoraSpec
from tg_workbench.engine.trainer import Trainer

TEXTS = ["abcabc", "z", "qqqqq"]


def written(trainer: Trainer, place: Path) -> list[str]:
    """The names of the files that a trainer's folder holds, written to `place`."""
    files = to_hf_folder(Blueprint.of(trainer), weights_of(trainer), Path(), ("no", "yes"))
    for name, content in files.items():
        (place / name).write_bytes(content)
    return sorted(files)


def inputs_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    batch = trainer.tokenize(TEXTS, max_length=8)
    return {name: torch.tensor(batch[name]) for name in ("input_ids", "attention_mask")}


def ours(trainer: Trainer) -> torch.Tensor:
    with torch.inference_mode(), trainer.looking() as network:
        return network.answer(inputs_of(trainer))


def test_language_model_is_loaded_by_transformers(tmp_path: Path) -> None:
    trainer, _ = learned(KINDS["whole language model"])
    assert written(trainer, tmp_path) == ["config.json", "model.safetensors"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(**inputs_of(trainer)).logits, ours(trainer))


def test_classifier_is_loaded_by_transformers_with_its_class_names(tmp_path: Path) -> None:
    trainer, _ = learned(KINDS["frozen classifier"])
    assert written(trainer, tmp_path) == ["config.json", "model.safetensors"]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, local_files_only=True).eval()
    assert loaded.config.id2label == {0: "no", 1: "yes"}
    with torch.inference_mode():
        torch.testing.assert_close(loaded(**inputs_of(trainer)).logits, ours(trainer))


def test_adapters_are_loaded_by_peft(tmp_path: Path) -> None:
    trainer, _ = learned(KINDS["adapters"])
    assert written(trainer, tmp_path) == ["adapter_config.json", "adapter_model.safetensors"]
    start = build("tiny-llama", None, Path())
    assert isinstance(start, LanguageModel)
    assert isinstance(start.module, LlamaForCausalLM)
    loaded = PeftModel.from_pretrained(start.module, tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(**inputs_of(trainer)).logits, ours(trainer))


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("all-linear",)], ids=["some", "all"])
def test_adapted_classifier_is_loaded_by_peft_with_its_head(targets: tuple[str, ...], tmp_path: Path) -> None:
    named = dataclasses.replace(KINDS["adapted classifier"], lora=LoraSpec(rank=4, target_modules=targets))
    trainer, _ = learned(named)
    assert written(trainer, tmp_path) == ["adapter_config.json", "adapter_model.safetensors"]
    start = build("tiny-llama", None, Path())
    assert isinstance(start.module, LlamaForCausalLM)
    config = start.module.config
    config.num_labels, config.pad_token_id = 2, 258
    base = LlamaForSequenceClassification(config)
    base.model.load_state_dict(start.module.model.state_dict())
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(**inputs_of(trainer)).logits, ours(trainer))


def test_row_network_is_its_blueprint_and_its_weights(tmp_path: Path) -> None:
    trainer, batch = learned(KINDS["resnet18"])
    assert written(trainer, tmp_path) == ["config.json", "model.safetensors"]
    told = json.loads((tmp_path / "config.json").read_text())
    assert told["class_names"] == ["no", "yes"]
    network = Blueprint.from_json(told).opened((tmp_path / "model.safetensors").read_bytes(), Path())
    again = Trainer(trainer.spec, network=build("resnet18", trainer.spec.architecture, Path()))
    assert network.module.state_dict().keys() == again.network.module.state_dict().keys()
    features = torch.tensor(np.asarray(batch["features"]), dtype=torch.float32)
    with torch.inference_mode(), trainer.looking() as seen:
        torch.testing.assert_close(
            network.answer({"features": features}), seen.answer({"features": features})
        )


def test_tokenizer_comes_along_from_a_folder(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    spec = dataclasses.replace(KINDS["frozen classifier"], model_ref=str(folder))
    trainer = Trainer(spec)
    assert isinstance(trainer.network, TextClassifier)
    place = tmp_path / "written"
    place.mkdir()
    assert {"tokenizer.json", "tokenizer_config.json"} < set(written(trainer, place))
    loaded = AutoModelForSequenceClassification.from_pretrained(place, local_files_only=True).eval()
    ids = torch.tensor([[1, 2, 0], [2, 0, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])  # one token both pads and ends here
    with torch.inference_mode(), trainer.looking() as network:
        torch.testing.assert_close(
            network.answer({"input_ids": ids, "attention_mask": mask}),
            loaded(input_ids=ids, attention_mask=mask).logits,
        )


@pytest.mark.parametrize("kind", ["adapters", "adapted classifier"])
def test_adapters_tell_of_which_model_they_are(kind: str) -> None:
    trainer = Trainer(KINDS[kind])
    files = to_hf_folder(Blueprint.of(trainer), weights_of(trainer), Path())
    told = json.loads(files["adapter_config.json"])
    assert told["base_model_name_or_path"] == "tiny-llama"
    assert told["task_type"] == ("SEQ_CLS" if "classifier" in kind else "CAUSAL_LM")
