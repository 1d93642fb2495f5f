"""A network: what it reads, what it answers, and the module in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from tg_workbench.errors import InvalidRequest


class Tokenizer(Protocol):
    """Text ↔ token ids of one vocabulary."""

    start_id: int
    end_id: int
    pad_id: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, without the special ones."""
        ...


@dataclass(frozen=True, slots=True)
class RowModel:
    """A network from rows or images to numbers."""

    module: nn.Module
    input_shape: tuple[int, ...]
    output_size: int

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """[examples, outputs]."""
        said: Tensor = self.module(inputs["features"])
        return said

    def numbers(self, inputs: dict[str, Tensor]) -> int:
        """How many numbers one example goes in or comes out as, whichever is more."""
        return max(math.prod(self.input_shape), self.output_size)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network from tokens to the tokens that come next."""

    module: nn.Module
    tokenizer: Tokenizer
    vocabulary_size: int
    max_length: int

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """[examples, tokens, vocabulary]."""
        logits: Tensor = self.module(**inputs, use_cache=False).logits
        return logits

    def checkpoint_blocks(self) -> None:
        """Keep the input of each block only, and compute what is inside again on the way back.

        Raises InvalidRequest where transformers knows no blocks of this model.
        """
        enable = getattr(self.module, "activation_checkpointing_enable", None)  # its name from 5.x on
        enable = enable or getattr(self.module, "gradient_checkpointing_enable", None)
        if enable is None or not getattr(self.module, "supports_gradient_checkpointing", False):
            raise InvalidRequest("this model has no gradient checkpointing; leave gradient_checkpointing out")
        enable({"use_reentrant": False})

    def numbers(self, inputs: dict[str, Tensor]) -> int:
        """How many numbers one example comes out as."""
        return inputs["input_ids"].shape[1] * self.vocabulary_size


Network = RowModel | LanguageModel
