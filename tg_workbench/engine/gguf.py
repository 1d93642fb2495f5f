"""A Llama in a gguf file, unpacked into the folder layout that everything else reads.

Quantized weights come out as float32; the tokenizer is rebuilt from the vocabulary and merges in the file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig

_LAYER_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE_PARTS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def unpack(source: Path, folder: Path) -> None:
    """Write `source` as config.json, model.safetensors and tokenizer.json: a whole `folder`, or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(source)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as place:
        half = Path(place) / "model"
        half.mkdir()
        config = _config(reader)
        config.save_pretrained(half)
        save_file(_weights(reader, config), half / "model.safetensors", metadata={"format": "pt"})
        _tokenizer(reader).save(str(half / "tokenizer.json"))
        (half / "tokenizer_config.json").write_text(json.dumps(_special_tokens(reader)))
        try:
            half.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process unpacked it first, and ours is not needed
                raise
            shutil.rmtree(half)


def _config(reader: GGUFReader) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(_field(reader, "tokenizer.ggml.tokens")),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=_field(reader, "llama.attention.head_count"),
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=round(_field(reader, "llama.attention.layer_norm_rms_epsilon"), 9),
        rope_parameters={"rope_type": "default", "rope_theta": _field(reader, "llama.rope.freq_base")},
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        bos_token_id=_field(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_field(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=None,
        architectures=["LlamaForCausalLM"],
    )


def _weights(reader: GGUFReader, config: LlamaConfig) -> dict[str, Tensor]:
    weights = {}
    for tensor in reader.tensors:
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if ".attn_q." in tensor.name:
            values = _heads_in_halves(values, config.num_attention_heads)
        elif ".attn_k." in tensor.name:
            values = _heads_in_halves(values, int(config.num_key_value_heads or config.num_attention_heads))
        weights[_name(tensor.name)] = torch.from_numpy(np.array(values))
    return weights


def _heads_in_halves(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """A gguf keeps each head's rotated pairs side by side; transformers keeps first halves, then second."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def _name(name: str) -> str:
    if name in _WHOLE_PARTS:
        return _WHOLE_PARTS[name]
    _, number, part, last = name.split(".")
    return f"model.layers.{number}.{_LAYER_PARTS[part]}.{last}"


def _tokenizer(reader: GGUFReader) -> Tokenizer:
    """Byte-level pairs, every digit alone: the `smollm` way of cutting text."""
    if _field(reader, "tokenizer.ggml.pre") != "smollm":
        raise ValueError("this gguf cuts text in a way that is not known here")
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ", 1)) for pair in _field(reader, "tokenizer.ggml.merges")]
    kinds: list[int] = _field(reader, "tokenizer.ggml.token_type")
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def _special_tokens(reader: GGUFReader) -> dict[str, str]:
    tokens = _field(reader, "tokenizer.ggml.tokens")
    kinds = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}
    return {name: tokens[_field(reader, f"tokenizer.ggml.{kind}_token_id")] for name, kind in kinds.items()}


def _field(reader: GGUFReader, name: str) -> Any:
    field = reader.fields.get(name)
    if field is None:
        raise ValueError(f"the gguf file does not say its {name}")
    return field.contents()
