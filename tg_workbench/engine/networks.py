"""A network: what it reads, what it answers, and the module in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tg_workbench.engine.precision import computing_in
from tg_workbench.engine.specs import FLOAT32, TargetScale
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
    target_scale: TargetScale | None = None
    """The scale on which numbers are learned; None: their own."""

    def answer(self, inputs: dict[str, Tensor], precision: str = FLOAT32) -> Tensor:
        """[examples, outputs], on the module's device: of `features`, or of what `prepare` made of them."""
        device = device_of(self.module)
        read = inputs[PREPARED] if PREPARED in inputs else self._fronted(inputs)
        with computing_in(precision, device):
            said: Tensor = self.module(read.to(device))
        answer = said.float()
        if self.target_scale is not None:
            answer = self.target_scale.unscaled(answer)
        return answer

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
        _checkpoint_blocks(self.module)

    def numbers(self, inputs: dict[str, Tensor]) -> int:
        """How many numbers one example comes out as."""
        return inputs["input_ids"].shape[1] * self.vocabulary_size


class Classifier(nn.Module):
    """The trunk of a language model and one layer on what it made of the last token, as transformers has it.

    Its parts have the names that transformers gives them: its `…ForSequenceClassification` loads the weights.
    The last token is the last that is not padding; where one token both pads and ends, that before the end.
    """

    def __init__(self, trunk: nn.Module, trunk_name: str, outputs: int, pad_id: int) -> None:
        super().__init__()
        self.trunk_name = trunk_name
        self.pad_id = pad_id
        setattr(self, trunk_name, trunk)
        self.score = nn.Linear(_config(trunk).hidden_size, outputs, bias=False)

    @property
    def trunk(self) -> nn.Module:
        """What reads the tokens."""
        return self.get_submodule(self.trunk_name)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[examples, outputs]."""
        scores: Tensor = self.score(self.hidden(input_ids, attention_mask))
        return scores

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[examples, width]: what the trunk makes of the last token of each text."""
        made = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        states: Tensor = made.last_hidden_state
        is_read = (attention_mask == 1) & (input_ids != self.pad_id)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * is_read).argmax(1)
        return states[torch.arange(len(states), device=states.device), last]


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """A network from tokens to classes, or to numbers: its head learns, and what adapters its trunk got.

    Without adapters the trunk is frozen, and what it makes of a text can be computed once for all steps
    (`prepare`), always in float32.
    """

    module: Classifier
    tokenizer: Tokenizer
    vocabulary_size: int
    max_length: int
    output_size: int
    loss: str | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of the trunk learns."""
        return not any(parameter.requires_grad for parameter in self.module.trunk.parameters())

    @property
    def width(self) -> int:
        """How many numbers the trunk makes of a text."""
        return self.module.score.in_features

    def answer(self, inputs: dict[str, Tensor], precision: str = FLOAT32) -> Tensor:
        """[examples, outputs], on the module's device: of tokens, or of what `prepare` made of them."""
        device = device_of(self.module)
        placed = {name: tensor.to(device) for name, tensor in inputs.items()}
        if PREPARED not in placed and self.is_frozen:
            placed = {PREPARED: self._hidden(placed)}
        with computing_in(precision, device):
            said: Tensor = (
                self.module.score(placed[PREPARED]) if PREPARED in placed else self.module(**placed)
            )
        return said.float()

    def prepare(self, inputs: dict[str, Tensor]) -> Tensor:
        """What the frozen trunk makes of some texts, in half the memory: float16."""
        device = device_of(self.module)
        return self._hidden({name: tensor.to(device) for name, tensor in inputs.items()}).half().cpu()

    def _hidden(self, placed: dict[str, Tensor]) -> Tensor:
        """Without dropout: the trunk does not learn."""
        trunk, was_training = self.module.trunk, self.module.trunk.training
        if was_training:
            trunk.eval()
        try:
            with torch.no_grad():
                return self.module.hidden(**placed)
        finally:
            if was_training:
                trunk.train()

    def checkpoint_blocks(self) -> None:
        """As of a language model. Raises InvalidRequest where the trunk is frozen, or has no blocks."""
        if self.is_frozen:
            raise InvalidRequest("a frozen model keeps nothing: leave gradient_checkpointing out")
        _checkpoint_blocks(self.module.trunk)

    def numbers(self, inputs: dict[str, Tensor]) -> int:
        """How many numbers of one example are kept: what each block of the trunk makes of its tokens."""
        if PREPARED in inputs:
            return max(self.width, self.output_size)
        blocks = int(_config(self.module.trunk).num_hidden_layers)
        return max(inputs["input_ids"].shape[1] * self.width * (2 + blocks), self.output_size)


Network = RowModel | LanguageModel | TextClassifier


def _config(trunk: nn.Module) -> Any:
    """What transformers knows of the part of a model that reads text."""
    return trunk.config.get_text_config()  # type: ignore[union-attr,operator]


def _checkpoint_blocks(module: nn.Module) -> None:
    enable = getattr(module, "activation_checkpointing_enable", None)  # its name from 5.x on
    enable = enable or getattr(module, "gradient_checkpointing_enable", None)
    if enable is None or not getattr(module, "supports_gradient_checkpointing", False):
        raise InvalidRequest("this model has no gradient checkpointing; leave gradient_checkpointing out")
    enable({"use_reentrant": False})


def adapted(network: Network) -> nn.Module:
    """What adapters are put into: all but the head of what tells texts apart."""
    return network.module.trunk if isinstance(network, TextClassifier) else network.module


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: with its parameters, all of which lie together."""
    return next(module.parameters()).device
