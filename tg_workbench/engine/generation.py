"""Writing text: one token after another, and texts made ready to learn from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tg_workbench.engine.losses import IGNORED
from tg_workbench.engine.networks import LanguageModel, TextClassifier, device_of
from tg_workbench.errors import ClientFailed, Interrupted, InvalidBatch, InvalidRequest


@dataclass(frozen=True, slots=True)
class Taste:
    """How to choose the next token, and when to end. `temperature` 0 always takes the likeliest."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop_sequences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not 0.0 <= self.temperature < math.inf:
            raise InvalidRequest("max_tokens must be at least 1 and temperature a number from 0")
        if not 0.0 < self.top_p <= 1.0 or self.top_k < -1:
            raise InvalidRequest("top_p must be above 0 and at most 1, top_k at least 1 (0 or -1: all)")


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt."""

    prompt: str
    completion: str
    tokens_generated: int
    finish_reason: Literal["stop", "length"]


def write_on(
    network: LanguageModel,
    prompt: str,
    taste: Taste,
    should_stop: Callable[[], bool] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Completion:
    """Write on from a prompt until the model ends, a stop sequence comes, or there is no more room.

    `tell` hears after each token all that was written so far. Raises InvalidRequest, ClientFailed, and
    Interrupted once `should_stop` says so.
    """
    tokenizer = network.tokenizer
    ids = tokenizer.encode(prompt) or [tokenizer.start_id]
    room = network.max_length - len(ids)
    if room < 1:
        raise InvalidRequest(f"the prompt is {len(ids)} tokens long; this model reads {network.max_length}")
    chance = torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "big"))
    written: list[int] = []
    cache: Any = None
    with torch.inference_mode():
        while len(written) < min(taste.max_tokens, room):
            if should_stop is not None and should_stop():
                raise Interrupted
            fresh = torch.tensor([ids if cache is None else written[-1:]], device=device_of(network.module))
            told = network.module(input_ids=fresh, past_key_values=cache, use_cache=True)
            cache = told.past_key_values
            token = _choose(told.logits[0, -1].cpu(), taste, chance)
            if token == tokenizer.end_id:
                return Completion(prompt, tokenizer.decode(written), len(written), "stop")
            written.append(token)
            text = tokenizer.decode(written) if taste.stop_sequences or tell is not None else ""
            ends = [text.find(stop) for stop in taste.stop_sequences if stop and stop in text]
            if ends:
                return Completion(prompt, text[: min(ends)], len(written), "stop")
            if tell is not None:
                tell(text)
    return Completion(prompt, tokenizer.decode(written), len(written), "length")


def tokenize(network: LanguageModel | TextClassifier, texts: list[str], max_length: int) -> dict[str, Any]:
    """Texts as arrays of one width: each ends with the end token if it fits; padding is not learned."""
    if not texts:
        raise InvalidBatch("there are no texts: send at least one")
    if max_length < 2:
        raise InvalidRequest("max_length must be at least 2 tokens")
    tokenizer = network.tokenizer
    most = min(max_length, network.max_length)
    rows = [[*tokenizer.encode(text), tokenizer.end_id][:most] for text in texts]
    width = max(2, max(len(row) for row in rows))
    ids = np.full((len(rows), width), tokenizer.pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask == 1, ids, IGNORED)}


def _choose(logits: Tensor, taste: Taste, chance: torch.Generator) -> int:
    if not bool(logits.isfinite().all()):
        raise ClientFailed("the model's weights are no longer finite: load an earlier checkpoint")
    if taste.temperature == 0.0:
        return int(logits.argmax())
    logits = logits / taste.temperature
    if 0 < taste.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(taste.top_k).values[-1], -math.inf)
    probabilities, order = logits.softmax(-1).sort(descending=True)
    # A token is kept while those before it have not filled top_p; the first one always is.
    probabilities[probabilities.cumsum(-1) - probabilities >= taste.top_p] = 0.0
    return int(order[torch.multinomial(probabilities, 1, generator=chance)])
