"""A network: what it reads, what it answers, and the module in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tg_workbench.engine.precision import computing_in
from tg_workbench.engine.specs import FLOAT32
from tg_workbench.errors import InvalidRequest

PREPARED = "prepared"
"""The column of a batch that holds what a front made of its features."""


class Front(Protocol):
    """What is done to each example before the part that learns sees it."""

    output_shape: tuple[int, ...]
    numbers: int

    def __call__(self, features: Tensor, /) -> Tensor:
        """[examples, *output_shape]."""
        ...


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
    """A network from rows or images to numbers.

    `front` comes before what learns: fixed, and of each example by itself, so that it can be computed once
    for all steps (`prepare`). It is always computed on the CPU and in float32.
    """

    module: nn.Module
    input_shape: tuple[int, ...]
    output_size: int
    front: Front | None = None
    loss: str | None = None
    """What it is learned by when nothing is asked for; None: what fits the targets."""

    def answer(self, inputs: dict[str, Tensor], precision: str = FLOAT32) -> Tensor:
        """[examples, outputs], on the module's device: of `features`, or of what `prepare` made of them."""
        device = device_of(self.module)
        read = inputs[PREPARED] if PREPARED in inputs else self._fronted(inputs)
        with computing_in(precision, device):
            said: Tensor = self.module(read.to(device))
        return said.float()

    def prepare(self, features: Tensor) -> Tensor:
        """What the front makes of [examples, *input_shape], in half the memory: float16. Needs a front."""
        assert self.front is not None  # noqa: S101  (the trainer looked)
        with torch.no_grad():
            prepared: Tensor = self.front(features).half()
        return prepared

    def numbers(self, inputs: dict[str, Tensor]) -> int:
        """The most numbers one example is at any place: going in, coming out, or in the front."""
        if PREPARED in inputs:
            return max(inputs[PREPARED][:1].numel(), self.output_size)
        within = self.front.numbers if self.front is not None else 0
        return max(math.prod(self.input_shape), self.output_size, within)

    def _fronted(self, inputs: dict[str, Tensor]) -> Tensor:
        """Through float16 as well: prepared or not, the answers are the same."""
        features = inputs["features"]
        return features if self.front is None else self.prepare(features).float()


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network from tokens to the tokens that come next."""

    module: nn.Module
    tokenizer: Tokenizer
    vocabulary_size: int
    max_length: int
    loss: str | None = "cross_entropy"

    def answer(self, inputs: dict[str, Tensor], precision: str = FLOAT32) -> Tensor:
        """[examples, tokens, vocabulary], on the module's device."""
        device = device_of(self.module)
        placed = {name: tensor.to(device) for name, tensor in inputs.items()}
        with computing_in(precision, device):
            logits: Tensor = self.module(**placed, use_cache=False).logits
        return logits.float()

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


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: with its parameters, all of which lie together."""
    return next(module.parameters()).device
