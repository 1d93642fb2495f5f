"""Rows for the worker: from an operation's payload, or from a registered dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tg_workbench.datasets import UNIT_IDS, Dataset
from tg_workbench.engine.networks import PREPARED
from tg_workbench.engine.specs import Architecture, TargetScale
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import InvalidBatch, InvalidRequest
from tg_workbench.storage import Blobs
from tg_workbench.training.specs import ClientSpec
from tg_workbench.training.tables import Operation

SAFETENSORS = "application/vnd.safetensors"
LONGEST_TEXT_TOKENS = 256
TARGETS = "targets"
Batch = dict[str, Any]


def request_of(operation: Operation) -> dict[str, Any]:
    """What the operation asks for. Binary bodies hold a batch and nothing else. Raises InvalidBatch.

    What a fixed front makes of features is taken from nobody: it would pass for what no image gives.
    """
    payload = operation.payload or b"{}"
    if operation.content_type == SAFETENSORS:
        request: dict[str, Any] = {"batch": read_tensors(payload)}
    else:
        request = json.loads(payload)
    for rows in (request, request.get("batch")):
        if isinstance(rows, dict) and PREPARED in rows:
            raise InvalidBatch(f"a batch holds features, not {PREPARED}: the workbench makes those itself")
    return request


def read_tensors(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays in safetensors bytes. Raises InvalidBatch."""
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as failure:
        raise InvalidBatch("these bytes are not a safetensors file") from failure


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """A dataset in memory, ready to be indexed."""

    columns: dict[str, np.ndarray[Any, Any]]
    size: int
    rows_of: list[np.ndarray[Any, np.dtype[np.int64]]] | None = None
    """The rows of each unit; None: every row is one."""

    @property
    def members(self) -> int:
        """How many there are to be drawn: units, or rows."""
        return self.size if self.rows_of is None else len(self.rows_of)

    @classmethod
    def load(
        cls,
        dataset: Dataset,
        blobs: Blobs,
        trainer: Trainer,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> DatasetRows:
        """Read the dataset; texts are turned into tokens by the trainer's own tokenizer.

        Raises InvalidRequest, InvalidBatch, and Interrupted once `should_stop` says so.
        """
        content = blobs.read(dataset.blob)
        if dataset.format == "texts":
            if not trainer.reads_text:
                raise InvalidRequest(
                    f"dataset {dataset.id} holds texts; {trainer.spec.model_ref} reads features"
                )
            told = json.loads(content)
            told = told if isinstance(told, dict) else {"texts": told}
            units = told.get(UNIT_IDS)
            columns = trainer.tokenize(told["texts"], max_length=LONGEST_TEXT_TOKENS)
            if not trainer.is_language_model:
                columns["targets"] = _targets(dataset, told)
        else:
            columns = read_tensors(content)
            units = columns.pop(UNIT_IDS, None)
        rows = {name: np.asarray(column) for name, column in columns.items()}
        trainer.check(rows)  # all of them: what is wrong with one must not depend on who is drawn
        made = trainer.prepare(rows, should_stop=should_stop)
        return cls(made, dataset.size, None if units is None else _rows_of(units))

    def take_members(self, drawn: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The rows of those who were drawn; where units were, each row says whose it is."""
        if self.rows_of is None:
            return self.take(drawn)
        chosen = [self.rows_of[member] for member in drawn]
        rows = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
        owners = np.repeat(np.asarray(drawn, dtype=np.int64), [len(each) for each in chosen])
        return {**self.take(rows), UNIT_IDS: owners}

    def of_members(self, members: NDArray[np.int64]) -> Batch:
        """All rows of some members, to be looked at: whose they are is left out."""
        if self.rows_of is None:
            return self.take(members)
        chosen = [self.rows_of[member] for member in members]
        return self.take(np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64))

    def take(self, rows: Sequence[int] | slice | np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
        """Some rows as a batch."""
        batch = {name: column[rows] for name, column in self.columns.items()}
        if "attention_mask" in batch:  # no column is dropped that any row needs, wherever its padding is
            used = np.flatnonzero(batch["attention_mask"].any(axis=0))
            width = int(used[-1]) + 1 if len(used) else 1
            batch = {name: column if name == TARGETS else column[:, :width] for name, column in batch.items()}
        return batch


def _targets(dataset: Dataset, told: dict[str, Any]) -> np.ndarray[Any, Any]:
    """What texts are to be told apart by."""
    if told.get(TARGETS) is None:
        raise InvalidRequest(
            f"dataset {dataset.id} holds texts without targets: there is nothing to tell apart"
        )
    return np.asarray(told[TARGETS])


def _rows_of(units: Sequence[Any]) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """The row numbers of each unit, in the order in which units first appear."""
    found: dict[str, list[int]] = {}
    for row, unit in enumerate(units.tolist() if isinstance(units, np.ndarray) else units):
        found.setdefault(str(unit), []).append(row)
    return [np.asarray(rows, dtype=np.int64) for rows in found.values()]


def architecture_of(dataset: Dataset, blobs: Blobs) -> Architecture:
    """The network shape a dataset asks for: as many inputs as features, one output per class or target."""
    if dataset.format != "safetensors":
        raise InvalidRequest("a dataset of texts needs a language model, such as tiny-llama or smollm2-135m")
    columns = read_tensors(blobs.read(dataset.blob))
    if "features" not in columns:
        raise InvalidRequest("a dataset of tokens needs a language model, such as tiny-llama or smollm2-135m")
    features, targets = columns["features"], columns["targets"]
    if np.issubdtype(targets.dtype, np.integer):
        outputs = int(targets.max()) + 1
        if int(targets.min()) < 0:
            raise InvalidRequest("classes are numbered from 0")
        names = (dataset.encoding or {}).get("class_names") or ()  # public, where the rows are not
        outputs = max(outputs, len(names), 2)
    else:
        outputs = 1 if targets.ndim == 1 else int(np.prod(targets.shape[1:]))
    return Architecture(input_shape=tuple(features.shape[1:]), output_size=outputs)


def with_target_scale(spec: ClientSpec, dataset: Dataset) -> ClientSpec:
    """The same, on the scale that the dataset's numbers have, if they have one and are learned by `mse`."""
    number = (dataset.encoding or {}).get("target_number")
    is_squared = spec.loss in (None, "mse") and spec.model_ref != "logistic"
    if number is None or spec.architecture is None or not is_squared:
        return spec
    scale = TargetScale(number["center"], number["scale"])
    return replace(spec, architecture=replace(spec.architecture, target_scale=scale))


def classes_of_texts(dataset: Dataset, blobs: Blobs) -> Architecture | None:
    """The shape of what tells the texts of a dataset apart; None where they have no targets."""
    told = json.loads(blobs.read(dataset.blob)) if dataset.format == "texts" else None
    if not isinstance(told, dict) or told.get(TARGETS) is None:
        return None
    targets = np.asarray(told[TARGETS])
    if not np.issubdtype(targets.dtype, np.integer):
        return Architecture((), 1)
    names = (dataset.encoding or {}).get("class_names") or ()
    return Architecture((), max(int(targets.max()) + 1, len(names), 2))
