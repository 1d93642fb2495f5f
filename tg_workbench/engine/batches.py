"""Batches: rows, images and tokens, checked and turned into tensors.

Everything a caller can get wrong is refused here, in words that say what to send instead; no message
repeats a value of the batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tg_workbench.engine.losses import IGNORED
from tg_workbench.errors import InvalidBatch

WHITE = 255
"""The largest byte: what 1.0 is in an image of bytes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples ready for a model: what it reads, and what it should have said."""

    inputs: dict[str, Tensor]
    targets: Tensor | None
    units: Tensor | None = None
    """The number of each example's unit, from 0 on; None: every example is one."""

    @property
    def size(self) -> int:
        """How many examples."""
        return len(next(iter(self.inputs.values())))

    @property
    def tokens(self) -> int:
        """How many tokens (rows count as one)."""
        mask = self.inputs.get("attention_mask")
        return self.size if mask is None else int(mask.sum())

    def some(self, numbers: list[int]) -> Batch:
        """The examples of these numbers, without their units."""
        return self._chosen(torch.tensor(numbers), None)

    def parts(self, size: int) -> Iterator[Batch]:
        """The same examples, at most `size` at a time; a unit is never divided, however large it is."""
        if self.units is not None:
            yield from self._parts_by_unit(self.units, size)
            return
        if 0 < self.size <= size:
            yield self
            return
        for start in range(0, self.size, size):
            yield self._chosen(slice(start, start + size), None)

    def _parts_by_unit(self, units: Tensor, size: int) -> Iterator[Batch]:
        # Smaller units first: laid side by side each takes as much room as the largest of its part.
        sizes = torch.bincount(units)
        by_size = torch.argsort(sizes, stable=True)
        rank = torch.empty_like(by_size)
        rank[by_size] = torch.arange(len(by_size))
        order = torch.argsort(rank[units], stable=True)
        lengths = sizes[by_size].tolist()
        first, start, end = 0, 0, 0
        for unit, length in enumerate(lengths):
            end += length
            largest = lengths[unit + 1] if unit + 1 < len(lengths) else None
            if largest is None or largest * (unit + 2 - first) > size:
                chosen = order[start:end]
                yield self._chosen(chosen, rank[units[chosen]] - first)
                first, start = unit + 1, end

    def _chosen(self, chosen: slice | Tensor, units: Tensor | None) -> Batch:
        return Batch(
            {name: tensor[chosen] for name, tensor in self.inputs.items()},
            None if self.targets is None else self.targets[chosen],
            units,
        )


# ------------------------------------------------------------------------------------------- rows
def read_rows(
    batch: Mapping[str, Any],
    *,
    input_shape: tuple[int, ...],
    allow_empty: bool = False,
    column: str = "features",
) -> Tensor:
    """The features of a batch of rows or images, as float32 of shape [examples, *input_shape].

    Bytes (uint8) in the shape of images are their pixels, and read as value / 255: from 0 to 1. Every other
    type, and bytes in a table, as they are.
    """
    if column not in batch:
        raise InvalidBatch("this model learns from rows: send features (and targets), not input_ids")
    features = _tensor(column, batch[column])
    if features.dtype == torch.bool or features.is_complex():
        raise InvalidBatch("features must be numbers")
    count = _examples("features", features, allow_empty)
    # A table of bytes holds numbers: pixels are in the shape of an image, as they come or as the model reads.
    is_image = len(input_shape) > 1 or features.dim() > 2
    if tuple(features.shape[1:]) != input_shape:
        if features[:1].numel() != _size(input_shape) and count:
            raise InvalidBatch(
                f"features have shape {_shape(features.shape[1:])} per example; "
                f"this model takes {_shape(input_shape)}"
            )
        features = features.reshape(count, *input_shape)
    is_pixels = is_image and features.dtype == torch.uint8
    may_be_infinite = features.is_floating_point()
    features = features.to(torch.float32, copy=True)
    features = features.div_(WHITE) if is_pixels else features
    if may_be_infinite and not _all_finite(features):
        raise InvalidBatch("features hold values that are not finite (NaN or infinite); clean them first")
    return features


def read_targets(batch: Mapping[str, Any], *, count: int, output_size: int, loss: str | None) -> Tensor:
    """What `count` rows should give: class numbers for cross_entropy, values for the other losses."""
    if batch.get("targets") is None:
        raise InvalidBatch("targets are missing: send one per example")
    targets = _tensor("targets", batch["targets"])
    if targets.dim() == 0 or len(targets) != count:
        raise InvalidBatch(f"targets must hold one entry for each of the {count} examples")
    if targets.is_complex() or (targets.is_floating_point() and not _all_finite(targets)):
        raise InvalidBatch("targets hold values that are not finite (NaN or infinite)")
    if loss == "cross_entropy":
        return _classes(targets, output_size)
    values = targets.to(torch.float32)
    if values[:1].numel() != output_size and count:
        raise InvalidBatch(f"targets must hold {output_size} value(s) per example, one per output")
    if loss == "bce" and bool(((values < 0) | (values > 1)).any()):
        raise InvalidBatch("targets of bce must lie from 0 to 1: for other numbers take linear or mlp")
    return values.reshape(count, output_size)


def loss_for(batch: Mapping[str, Any], output_size: int) -> str:
    """The loss that fits the targets: classes for whole numbers, squared error for the rest."""
    targets = batch.get("targets")
    if targets is not None and not isinstance(targets, np.ndarray):
        targets = _tensor("targets", targets).numpy()
    if targets is None or targets.dtype.kind == "f":
        return "mse"
    return "cross_entropy" if output_size > 1 else "bce"


def _classes(targets: Tensor, output_size: int) -> Tensor:
    targets = targets.flatten(1).squeeze(1) if targets.dim() == 2 and targets.shape[1] == 1 else targets
    if targets.dim() != 1:
        raise InvalidBatch("targets of cross_entropy must be one class number per example")
    classes = targets.to(torch.int64)
    if targets.is_floating_point() and not bool((classes == targets).all()):
        raise InvalidBatch("targets of cross_entropy must be whole class numbers")
    lowest, highest = map(int, torch.aminmax(classes)) if len(classes) else (0, 0)
    if not 0 <= lowest <= highest < output_size:
        raise InvalidBatch(f"targets must be class numbers from 0 to {output_size - 1}")
    return classes


# ----------------------------------------------------------------------------------------- tokens
def read_tokens(
    batch: Mapping[str, Any], *, vocabulary_size: int, max_length: int, allow_empty: bool = False
) -> Batch:
    """Token ids with their mask, and as targets the next token of each place that is learned."""
    if "input_ids" not in batch:
        raise InvalidBatch("this model learns from tokens: send input_ids (and labels), not features")
    ids = _whole_numbers("input_ids", batch["input_ids"])
    _examples("input_ids", ids, allow_empty)
    if ids.dim() != 2 or ids.shape[1] < 1:
        raise InvalidBatch("input_ids must be a list of token lists of one length; pad the shorter ones")
    if ids.shape[1] > max_length:
        raise InvalidBatch(f"input_ids are {ids.shape[1]} tokens long; this model reads up to {max_length}")
    if bool(((ids < 0) | (ids >= vocabulary_size)).any()):
        raise InvalidBatch(
            f"input_ids hold ids outside this model's vocabulary of {vocabulary_size}: "
            "the batch comes from another tokenizer; tokenize it with this model's own"
        )
    mask = _beside("attention_mask", batch.get("attention_mask"), ids, default=torch.ones_like(ids))
    if bool(((mask != 0) & (mask != 1)).any()):
        raise InvalidBatch("attention_mask must hold only 0 and 1")
    labels = _beside("labels", batch.get("labels"), ids, default=ids)
    labels = torch.where(mask == 1, labels, IGNORED)
    if bool(((labels != IGNORED) & ((labels < 0) | (labels >= vocabulary_size))).any()):
        raise InvalidBatch(f"labels must be token ids below {vocabulary_size}, or {IGNORED} to leave one out")
    return Batch({"input_ids": ids, "attention_mask": mask}, _next(labels))


def _next(labels: Tensor) -> Tensor:
    """Each place's target is the label after it; the last place has none."""
    return torch.cat((labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)), dim=1)


def _beside(name: str, values: Any, ids: Tensor, default: Tensor) -> Tensor:
    if values is None:
        return default
    tensor = _whole_numbers(name, values)
    if tensor.shape != ids.shape:
        raise InvalidBatch(f"{name} must have the shape of input_ids, {_shape(ids.shape)}")
    return tensor


def _whole_numbers(name: str, values: Any) -> Tensor:
    tensor = _tensor(name, values)
    if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex()):
        raise InvalidBatch(f"{name} must be whole numbers")
    return tensor.to(torch.int64)


# ------------------------------------------------------------------------------------------- both
def _all_finite(values: Tensor) -> bool:
    """A finite sum has finite terms; only where the sum overflows is every term looked at."""
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())


def _tensor(name: str, values: Any) -> Tensor:
    """The values where they lie, if that can be: what is written into is copied first."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu")
    try:
        array = np.asarray(values)
        if array.dtype == object or array.dtype.kind not in "biuf":
            raise InvalidBatch(f"{name} must be numbers in rows of one length")
        is_wide = array.dtype.kind == "u" and array.dtype != np.uint8  # torch knows few unsigned types
        array = array.astype(np.int64) if is_wide else array
        return torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
    except (ValueError, TypeError, OverflowError) as refusal:
        raise InvalidBatch(f"{name} must be numbers in rows of one length") from refusal


def _examples(name: str, tensor: Tensor, allow_empty: bool) -> int:
    if tensor.dim() == 0:
        raise InvalidBatch(f"{name} must be a list of examples")
    if len(tensor) == 0 and not allow_empty:
        raise InvalidBatch("the batch is empty: send at least one example")
    return len(tensor)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(side) for side in shape) or "a single number"


class Repeats:
    """Whom a step has learned from so far, so that nobody is counted twice under one clip."""

    def __init__(self) -> None:
        self.seen: frozenset[bytes] = frozenset()

    def check(self, keys: Sequence[bytes], what: str) -> frozenset[bytes]:
        """These keys as a set; InvalidBatch if one of them comes twice, or came since the last step."""
        found = frozenset(keys)
        if len(found) < len(keys) or not found.isdisjoint(self.seen):
            raise InvalidBatch(
                f"{what} came twice before one optim_step and would count twice: "
                f"send each {what.removeprefix('an ').removeprefix('a ')} once per step"
            )
        return found

    def add(self, keys: frozenset[bytes]) -> None:
        """Remember whom a batch that was taken is about."""
        self.seen |= keys


def digests(batch: Batch) -> list[bytes]:
    """What each example of a batch is, as a digest.

    Padding is no part of an example: the same text padded to another width is the same text.
    """
    mask = batch.inputs.get("attention_mask")
    parts = [tensor for name, tensor in batch.inputs.items() if name != "attention_mask"]
    rows = [tensor.contiguous().numpy() for tensor in (*parts, batch.targets) if tensor is not None]
    kept = None if mask is None else mask.numpy() != 0

    def example(row: np.ndarray[Any, Any], number: int) -> bytes:
        is_padded = kept is not None and row.shape == kept.shape
        held: np.ndarray[Any, Any] = (
            row[number][kept[number]] if is_padded and kept is not None else row[number]
        )
        return held.tobytes()

    return [
        hashlib.blake2b(b"".join(example(row, number) for row in rows), digest_size=16).digest()
        for number in range(batch.size)
    ]
