"""Reader: what one model reads of a batch, checked, as tensors, and as many examples at a time as fit.

It refuses what `batches` refuses, in the words of the model that should have learned from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tg_workbench.engine.batches import Batch, loss_for, read_rows, read_targets, read_tokens
from tg_workbench.engine.networks import PREPARED, LanguageModel, Network, RowModel, TextClassifier
from tg_workbench.errors import Interrupted, InvalidRequest

MOST_NUMBERS = 1 << 25
"""How many numbers of a batch are in flight at once (128 MiB as float32); larger ones go in parts."""
ShouldStop = Callable[[], bool]
_READ = ("features", "input_ids", "attention_mask", "labels")
"""Columns that are read as inputs, and are no longer needed once those are prepared."""


class Reader:
    """Reads batches for one network; `loss` is the one that was asked for, or None for the one that fits."""

    def __init__(self, network: Network, loss: str | None) -> None:
        self._network = network
        self._loss = loss

    def read(self, batch: Mapping[str, Any], *, allow_empty: bool = False) -> tuple[Batch, str]:
        """The examples with their targets, and the name of the loss. Raises InvalidBatch, InvalidRequest."""
        network = self._network
        if isinstance(network, LanguageModel):
            if self._loss not in (None, "cross_entropy"):
                raise InvalidRequest("a language model learns by cross_entropy")
            return _tokens(network, batch, allow_empty=allow_empty), "cross_entropy"
        inputs = _inputs(network, batch, allow_empty=allow_empty)
        count = len(next(iter(inputs.values())))
        loss_name = self._loss or network.loss or loss_for(batch, network.output_size)
        targets = read_targets(batch, count=count, output_size=network.output_size, loss=loss_name)
        return Batch(inputs, targets), loss_name

    def read_inputs(self, batch: Mapping[str, Any]) -> Batch:
        """The examples without targets; of tokens with the ones that follow. Raises InvalidBatch."""
        if isinstance(self._network, LanguageModel):
            return self.read(batch)[0]
        return Batch(_inputs(self._network, batch), None)

    def prepared(self, batch: Mapping[str, Any], should_stop: ShouldStop | None = None) -> dict[str, Any]:
        """The batch with its inputs as the part of the network that never learns makes them.

        Where there is none: as it is. Raises InvalidBatch, and Interrupted once `should_stop` says so.
        """
        network = self._network
        if isinstance(network, LanguageModel) or PREPARED in batch:
            return dict(batch)
        if not network.is_frozen if isinstance(network, TextClassifier) else network.front is None:
            return dict(batch)
        parts = self.parts(self.read_inputs(batch), None, should_stop)
        made = torch.cat([_prepared(network, part.inputs) for part in parts])
        others = {name: column for name, column in batch.items() if name not in _READ}
        return {**others, PREPARED: made.numpy()}

    def parts(self, read: Batch, size: int | None, should_stop: ShouldStop | None = None) -> Iterator[Batch]:
        """The examples, as many at a time as was asked for or as memory is meant for.

        Raises Interrupted once `should_stop` says so.
        """
        for part in read.parts(size or max(1, MOST_NUMBERS // self._network.numbers(read.inputs))):
            if should_stop is not None and should_stop():
                raise Interrupted
            yield part


def _prepared(network: RowModel | TextClassifier, inputs: dict[str, Tensor]) -> Tensor:
    return network.prepare(inputs["features"]) if isinstance(network, RowModel) else network.prepare(inputs)


def _tokens(
    network: LanguageModel | TextClassifier, batch: Mapping[str, Any], *, allow_empty: bool = False
) -> Batch:
    return read_tokens(
        batch,
        vocabulary_size=network.vocabulary_size,
        max_length=network.max_length,
        allow_empty=allow_empty,
    )


def _inputs(
    network: RowModel | TextClassifier, batch: Mapping[str, Any], *, allow_empty: bool = False
) -> dict[str, Tensor]:
    """What a network reads of a batch, checked."""
    if isinstance(network, RowModel):
        return _rows(network, batch, allow_empty=allow_empty)
    if network.is_frozen and PREPARED in batch:
        shape = (network.width,)
        return {PREPARED: read_rows(batch, input_shape=shape, allow_empty=allow_empty, column=PREPARED)}
    return _tokens(network, batch, allow_empty=allow_empty).inputs


def _rows(network: RowModel, batch: Mapping[str, Any], *, allow_empty: bool = False) -> dict[str, Tensor]:
    """What a network of rows reads of a batch: its features, or what was prepared of them."""
    if network.front is not None and PREPARED in batch:
        shape = network.front.output_shape
        return {PREPARED: read_rows(batch, input_shape=shape, allow_empty=allow_empty, column=PREPARED)}
    return {"features": read_rows(batch, input_shape=network.input_shape, allow_empty=allow_empty)}
