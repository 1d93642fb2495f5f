"""Text classifiers that answer: texts become rows of token ids, and go through one batcher as rows do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tg_workbench.datasets.encoding import Encoding
from tg_workbench.engine.generation import tokenize
from tg_workbench.engine.networks import TextClassifier
from tg_workbench.errors import InvalidRequest
from tg_workbench.models.serving.frames import Frame
from tg_workbench.models.serving.hosts import Host, Tell
from tg_workbench.models.serving.served import Array, Run

MOST_TOKENS = 256
"""As much of a text as was read when the model learned."""
NOTHING = -1
"""Where a row has no token any more."""


class Tokens:
    """Texts → ids [rows, MOST_TOKENS], as a row's numbers: float32 holds every id exactly, below 2^24."""

    def __init__(self, network: TextClassifier, encoding: Encoding | None) -> None:
        self._network = network
        self._encoding = encoding or Encoding(kind="texts", task="classification")

    def features(self, rows: Sequence[Any]) -> Array:
        """The ids of each text. Raises InvalidBatch."""
        read = tokenize(self._network, self._encoding.texts(rows), MOST_TOKENS)
        ids = np.where(read["attention_mask"] == 1, read["input_ids"], NOTHING)
        wide = np.full((len(ids), MOST_TOKENS), NOTHING, dtype=np.int64)
        wide[:, : ids.shape[1]] = ids
        return wide


def run_of(network: TextClassifier) -> Run:
    """A text classifier as a function of such rows; no longer than the longest of them."""

    def run(features: Array) -> Array:
        ids = torch.from_numpy(features.astype(np.int64))
        ids = ids[:, : max(1, int((ids != NOTHING).sum(1).max()))]
        mask = (ids != NOTHING).long()
        read = {"input_ids": ids.where(mask == 1, network.tokenizer.pad_id), "attention_mask": mask}
        with torch.inference_mode():
            scores: Array = network.answer(read).cpu().numpy()
        return scores

    return run


class ClassifierHost:
    """A text classifier behind the host of its rows: what only tensors could be asked for is refused."""

    def __init__(self, rows: Host) -> None:
        self._rows = rows

    async def answer(self, asked: Frame, tell: Tell) -> Frame:
        """The answer. Raises InvalidRequest, ModelFailed, ModelBusy."""
        if asked.header.get("op") != "predict":
            raise InvalidRequest("this model reads texts and tells them apart: ask it to predict")
        return await self._rows.answer(asked, tell)

    async def close(self) -> None:
        """Compute nothing any more."""
        await self._rows.close()
