"""Canaries: made-up examples that may be learned beside a dataset, to see later whether that shows.

Everything about them comes from a seed and from what is public (shapes, the number of classes, the
vocabulary), never from a row. The same seed gives the same canaries and coins in any process, at any time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tg_workbench.engine.networks import LanguageModel, Network, TextClassifier
from tg_workbench.errors import InvalidRequest

CANARY_TOKENS = 16
"""How long a canary of tokens is, where texts may be of any length."""
Header = Mapping[str, Mapping[str, Any]]
"""What a dataset says of its tensors: dtype and shape of each, by name."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A secret that numbers are drawn from (SHAKE-256), each purpose by its own name."""

    secret: str

    def coins(self, count: int) -> NDArray[np.bool_]:
        """`count` fair coins: which canaries are there."""
        return self._uniforms("coins", count) < 0.5

    def normals(self, purpose: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Numbers from N(0, 1)."""
        drawn = self._uniforms(purpose, math.prod(shape)) + 2.0**-54  # above 0: its quantile is finite
        normals: NDArray[np.float32] = ndtri(drawn).astype(np.float32).reshape(shape)
        return normals

    def integers(self, purpose: str, below: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Whole numbers from 0 to `below` − 1."""
        return (self._uniforms(purpose, math.prod(shape)) * below).astype(np.int64).reshape(shape)

    def _uniforms(self, purpose: str, count: int) -> NDArray[np.float64]:
        stream = hashlib.shake_256(f"{purpose}:{self.secret}".encode()).digest(8 * count)
        bits = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53


def canary_rows(
    network: Network, count: int, seed: Seed, *, header: Header | None, loss: str | None
) -> dict[str, NDArray[Any]]:
    """`count` examples in the columns of a dataset: `header` its tensors, None for texts.

    Rows: standard normal features (bytes: any byte), and a target that has nothing to do with them. Tokens:
    any sequence of the vocabulary. Raises InvalidRequest where the dataset is not of the model's kind.
    """
    if isinstance(network, LanguageModel):
        return _tokens(network, count, seed, header)
    if isinstance(network, TextClassifier):
        columns = _tokens(network, count, seed, header)
        columns.pop("labels", None)
        return {**columns, "targets": seed.integers("targets", network.output_size, (count,))}
    if header is None or not {"features", "targets"} <= header.keys():
        raise InvalidRequest("canaries for a network of rows need a dataset of features and targets")
    shape = (count, *header["features"]["shape"][1:])
    is_bytes = header["features"]["dtype"] == "U8"
    features: NDArray[Any] = seed.normals("features", shape)
    if is_bytes:
        features = seed.integers("features", 256, shape).astype(np.uint8)
    whole = not str(header["targets"]["dtype"]).startswith(("F", "BF"))
    shape = (count, *header["targets"]["shape"][1:])
    chosen = loss or _usual_loss(whole=whole, outputs=network.output_size)
    if chosen == "mse":
        drawn, scale = seed.normals("targets", shape), network.target_scale
        return {"features": features, "targets": drawn if scale is None else scale.unscaled(drawn)}
    classes = 2 if chosen == "bce" else network.output_size
    targets = seed.integers("targets", classes, shape)
    return {"features": features, "targets": targets if whole else targets.astype(np.float32)}


def _usual_loss(*, whole: bool, outputs: int) -> str:
    """As `batches.loss_for` chooses it for targets of this kind."""
    if not whole:
        return "mse"
    return "cross_entropy" if outputs > 1 else "bce"


def _tokens(
    network: LanguageModel | TextClassifier, count: int, seed: Seed, header: Header | None
) -> dict[str, NDArray[Any]]:
    if header is not None and "input_ids" not in header:
        raise InvalidRequest("canaries for a language model need a dataset of texts or of tokens")
    width = CANARY_TOKENS if header is None else int(header["input_ids"]["shape"][1])
    width = max(1, min(width, network.max_length))
    ids = seed.integers("tokens", network.vocabulary_size, (count, width))
    columns = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
    return {name: column for name, column in columns.items() if header is None or name in header}
