"""Reader: what one model reads of a batch, checked, as tensors, and as many examples at a time as fit.

It refuses what `batches` refuses, in the words of the model that should have learned from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from tg_workbench.engine.batches import Batch, loss_for, read_rows, read_targets, read_tokens
from tg_workbench.engine.networks import PREPARED, LanguageModel, Network, RowModel
from tg_workbench.errors import Interrupted, InvalidRequest

MOST_NUMBERS = 1 << 25
"""How many numbers of a batch are in flight at once (128 MiB as float32); larger ones go in parts."""
ShouldStop = Callable[[], bool]


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
            read = read_tokens(
                batch,
                vocabulary_size=network.vocabulary_size,
                max_length=network.max_length,
                allow_empty=allow_empty,
            )
            return read, "cross_entropy"
        inputs = _rows(network, batch, allow_empty=allow_empty)
        count = len(next(iter(inputs.values())))
        loss_name = self._loss or network.loss or loss_for(batch, network.output_size)
        targets = read_targets(batch, count=count, output_size=network.output_size, loss=loss_name)
        return Batch(inputs, targets), loss_name

    def read_inputs(self, batch: Mapping[str, Any]) -> Batch:
        """The examples without targets; of tokens with the ones that follow. Raises InvalidBatch."""
        if isinstance(self._network, LanguageModel):
            return self.read(batch)[0]
        return Batch(_rows(self._network, batch), None)

    def parts(self, read: Batch, size: int | None, should_stop: ShouldStop | None = None) -> Iterator[Batch]:
        """The examples, as many at a time as was asked for or as memory is meant for.

        Raises Interrupted once `should_stop` says so.
        """
        for part in read.parts(size or max(1, MOST_NUMBERS // self._network.numbers(read.inputs))):
            if should_stop is not None and should_stop():
                raise Interrupted
            yield part


def _rows(network: RowModel, batch: Mapping[str, Any], *, allow_empty: bool = False) -> dict[str, Tensor]:
    """What a network of rows reads of a batch: its features, or what was prepared of them."""
    if network.front is not None and PREPARED in batch:
        shape = network.front.output_shape
        return {PREPARED: read_rows(batch, input_shape=shape, allow_empty=allow_empty, column=PREPARED)}
    return {"features": read_rows(batch, input_shape=network.input_shape, allow_empty=allow_empty)}
