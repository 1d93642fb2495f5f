"""Datasets: registered with the workbench once, then trained on by name under their privacy policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk.batches import tensors_body
from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.ids import numbered
from tg_workbench.sdk.values import Value

UPLOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Dataset(Value):
    """A registered dataset: what it is and what has been spent of its privacy. Never its rows."""

    dataset_id: str
    name: str = ""
    privacy: str = "protected"
    population: str = ""
    unit: str = "example"
    relation: str = "add_or_remove_one"
    delta: float | None = None
    epsilon_cap: float | None = None
    spent_epsilon: float = 0.0
    size: int = 0
    units: int | None = None
    """How many units own the rows; None: every row is one."""
    tensors: Mapping[str, Any] | None = None
    created_at: Any = None

    @property
    def id(self) -> str:
        """Its id."""
        return self.dataset_id

    def __str__(self) -> str:
        """One line: name, rows and what is spent."""
        if self.privacy == "public":
            return f"{self.name}: {self.size} rows, public"
        cap = "" if self.epsilon_cap is None else f" of {self.epsilon_cap:g}"
        owners = "" if self.units is None else f" of {self.units} units ({self.unit})"
        return f"{self.name}: {self.size} rows{owners}, protected, ε = {self.spent_epsilon:.2f}{cap} spent"


class Datasets:
    """The datasets of a workbench."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(
        self,
        name: str,
        *,
        features: Any = None,
        targets: Any = None,
        input_ids: Any = None,
        attention_mask: Any = None,
        labels: Any = None,
        texts: Sequence[str] | None = None,
        privacy: str = "protected",
        delta: float | None = None,
        epsilon_cap: float | None = None,
        population: Dataset | str | None = None,
        unit_ids: Any = None,
        unit: str | None = None,
    ) -> Dataset:
        """Hand rows over: features and targets, or tokens, or texts for a language model.

        Features of bytes (uint8) are the pixels of images: they stay bytes, a quarter of the size, and models
        read them as value / 255, from 0 to 1. Show such a model bytes too, or numbers from 0 to 1; lists of
        whole numbers are read as they are.
        `privacy` is protected (default: never trained on without differential privacy) or public.
        `population` names a dataset that is about the same people: they share one budget. Identical rows, in
        the same order and number types, always do; a larger `epsilon_cap` raises the cap they share.
        `unit_ids` say whose each row is (whole numbers or texts, which stay here), `unit` what they are:
        "patient". ε is then about each of them with all their rows. Raises InvalidBatch, InvalidRequest,
        PrivacyRefused, DatasetNotFound, StorageFull.
        """
        members = {
            "features": features,
            "targets": targets,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
        }
        tensors = {key: value for key, value in members.items() if value is not None}
        units = None if unit_ids is None else numbered(unit_ids)
        if (texts is None) == (not tensors):
            raise InvalidBatch("give features and targets, or input_ids, or texts; one of these kinds")
        policy = {
            "privacy": privacy,
            "delta": delta,
            "epsilon_cap": epsilon_cap,
            "population": dataset_id_of(population),
            "unit": unit,
        }
        path = "/workbench/v1/datasets"
        if texts is not None:
            given = {key: value for key, value in policy.items() if value is not None}
            told = given if units is None else {**given, "unit_ids": units}
            body = Body.of_json({"name": name, **told, "texts": list(texts)})
            answer = self._connection.post(path, body, answer_seconds=UPLOAD_SECONDS)
        else:
            body = tensors_body(tensors if units is None else {**tensors, "unit_ids": units})
            answer = self._connection.post(
                path, body, {"name": name, **policy}, answer_seconds=UPLOAD_SECONDS
            )
        return Dataset.from_wire(answer)

    def list(self, *, limit: int = 50, offset: int = 0) -> list[Dataset]:
        """A page of them, newest first."""
        answer = self._connection.get("/workbench/v1/datasets", {"limit": limit, "offset": offset})
        return [Dataset.from_wire(item) for item in answer.get("datasets", [])]

    def get(self, dataset_id: str) -> Dataset:
        """The dataset as it is now. Raises DatasetNotFound."""
        return Dataset.from_wire(self._connection.get(f"/workbench/v1/datasets/{dataset_id}"))

    def delete(self, dataset: Dataset | str) -> None:
        """Forget its rows; what was spent of its privacy stays written. Raises DatasetInUse."""
        self._connection.delete(f"/workbench/v1/datasets/{dataset_id_of(dataset)}")


def dataset_id_of(dataset: Dataset | str | None) -> str | None:
    """The id of a dataset that is given whole or by its id."""
    return dataset.dataset_id if isinstance(dataset, Dataset) else dataset
