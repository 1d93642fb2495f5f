"""The catalogue: what `wb.datasets` is, where datasets are handed over, looked up and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tg_workbench.errors import DatasetNotFound, InvalidBatch, InvalidRequest
from tg_workbench.sdk.batches import tensors_body
from tg_workbench.sdk.connection import Body, Call, Connection
from tg_workbench.sdk.dataset_names import dataset_id_of, dataset_of, dataset_with_id
from tg_workbench.sdk.datasets import DATASETS, Dataset, Validation
from tg_workbench.sdk.forms import form_of
from tg_workbench.sdk.ids import numbered
from tg_workbench.sdk.loaders import bundled, saved_dataset
from tg_workbench.sdk.paths import path_of_one
from tg_workbench.sdk.sources import source_file
from tg_workbench.sdk.uploads import Upload, Watcher

NEW = "new"
"""The population of a version that is about other people than the one before."""
UPLOAD_SECONDS = 300.0
VALIDATE_SECONDS = 180.0


class Datasets:
    """The datasets of a workbench: `wb.datasets[id]`, `["name"]` (its newest version), `["name:2"]`.

    Wherever the SDK takes a dataset, it takes these words for it as well.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(
        self,
        source: Any = None,
        name: str | None = None,
        *,
        features: Any = None,
        targets: Any = None,
        input_ids: Any = None,
        attention_mask: Any = None,
        labels: Any = None,
        texts: Sequence[str] | None = None,
        unit_ids: Any = None,
        target: str | None = None,
        classes: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
        text_column: str | None = None,
        unit_column: str | None = None,
        dataset_type: str | None = None,
        description: str | None = None,
        privacy: str = "protected",
        delta: float | None = None,
        epsilon_cap: float | None = None,
        population: Dataset | str | None = None,
        unit: str | None = None,
        progress: Watcher | bool = True,
        wait: bool = True,
    ) -> Dataset:
        """Hand a dataset over: a file or a table, or rows that are ready to learn from.

            wb.datasets.upload("patients.csv", target="sick")         # CSV, JSON, JSON Lines, Parquet, ZIP
            wb.datasets.upload("photos/", name="cats and dogs")       # a folder of images in class folders
            wb.datasets.upload(frame, "patients", target="sick")      # a pandas or Polars DataFrame
            wb.datasets.upload("points", features=X, targets=y)       # arrays, under a name
            wb.datasets.upload("letters", texts=["Dear Anna", …])     # for a language model

        A file is sent in pieces and goes on where it was when the line breaks. `target` is the column to
        predict (else it is guessed), `classes` are all names it can have. Of a protected dataset nothing is
        learned from the rows before training: `ranges` (smallest and largest, by column) and `categories`
        (all values, by column) say what is known without them. `unit_column` says whom each row is about: ε
        is then about each of them with all their rows. `progress` is a bar, or is called with the bytes that
        arrived and all of them. What was found in the file and taken all the same is warned of, a
        DatasetWarning each, and stays in `dataset.warnings`. With `wait=False` the dataset is still
        `processing`, and `dataset.wait()` warns.

        Features of bytes (uint8) are the pixels of images: they stay bytes, a quarter of the size, and models
        read them as value / 255, from 0 to 1. Show such a model bytes too, or numbers from 0 to 1; lists of
        whole numbers are read as they are. `unit_ids` say whose each row is (whole numbers or texts, which
        stay here).

        `privacy` is protected (default: never trained on without differential privacy) or public.
        `population` names a dataset that is about the same people: they share one budget. Left out, a new
        version of a protected name shares that of the version before; "new" says that it is about other
        people. A name that has been protected never becomes public: public rows need another. Identical
        rows, in the same order and number types, always share theirs; a larger
        `epsilon_cap` raises the cap they share. `unit` is what a unit is called: "patient".

        Raises DatasetInvalid, InvalidBatch, InvalidRequest, PrivacyRefused, DatasetNotFound, StorageFull,
        FileNotFoundError.
        """
        if name is not None and not isinstance(name, str):
            raise InvalidRequest(
                "the rows come first, and what they are called second: upload(frame, 'ward')"
            )
        tensors = _given(
            features=features,
            targets=targets,
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
        )
        policy = _given(
            privacy=privacy,
            delta=delta,
            epsilon_cap=epsilon_cap,
            population=self._population(population),
            unit=unit,
        )
        told = _said(
            target=target,
            classes=classes,
            ranges=ranges,
            categories=categories,
            text_column=text_column,
            unit_column=unit_column,
            dataset_type=dataset_type,
            description=description,
        )
        if isinstance(texts, str):
            raise InvalidBatch("texts are a list of texts, not one: [text]")
        if texts is None and not tensors:
            if unit_ids is not None:
                raise InvalidRequest("unit_ids go with arrays; of a file or a table name the unit_column")
            return self._upload_file(source, {**_given(name=name), **told, **policy}, progress, wait)
        if told:
            raise InvalidRequest(f"{', '.join(told)}: only with a file or a table, not with arrays or texts")
        if texts is not None and tensors:
            raise InvalidBatch("give features and targets, or input_ids, or texts; one of these kinds")
        rows = tensors if texts is None else {"texts": list(texts)}
        return self._register(_row_name(source, name), rows, unit_ids, policy)

    def validate(
        self,
        source: Any,
        name: str | None = None,
        *,
        target: str | None = None,
        classes: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
        text_column: str | None = None,
        unit_column: str | None = None,
        dataset_type: str | None = None,
        privacy: str = "protected",
    ) -> Validation:
        """Whether a file, folder or table could be uploaded, and what is in it; nothing of it is kept.

        Prints as a list of what is wrong and where, and is true when nothing is. `name` is what it would be
        called. Raises InvalidRequest for what `upload` would refuse unseen: a public one, say, under a name
        that was protected.
        """
        told = _said(
            target=target,
            classes=classes,
            ranges=ranges,
            categories=categories,
            text_column=text_column,
            unit_column=unit_column,
            dataset_type=dataset_type,
            privacy=privacy,
        )
        with source_file(source) as file:
            body = form_of(file, {"name": file.stem if name is None else name, **told})
            call = Call("POST", "/api/datasets/validate", body=body, answer_seconds=VALIDATE_SECONDS)
            return Validation.from_wire(self._connection.send(call))

    def from_sklearn(self, known: str, name: str | None = None, **policy: Any) -> Dataset:
        """Upload one of the datasets that scikit-learn brings along: nothing is downloaded.

        breast_cancer, diabetes, digits, iris or wine; its target and classes are known. `policy` is what
        `upload` takes: `privacy="public"`, say. Raises InvalidRequest for others.
        """
        table = bundled(known)
        return self.upload(table.source, name or known, **{**table.told, **policy})

    def from_huggingface(
        self, folder: str | Path, name: str | None = None, *, split: str | None = None, **policy: Any
    ) -> Dataset:
        """Upload what `datasets` has written with `save_to_disk`: one set, or one `split` of several.

        Only its Arrow files and its description are read, never code. Texts with a label, tables of plain
        columns, and images with a label. `policy` is what `upload` takes. Raises InvalidRequest,
        naming the column, for what cannot be learned from.
        """
        with saved_dataset(Path(folder).expanduser(), split) as saved:
            return self.upload(saved.source, name or saved.name, **{**saved.told, **policy})

    def list(self, *, name: str | None = None, limit: int = 50, offset: int = 0) -> list[Dataset]:
        """A page of them, newest first; with a `name`, its versions."""
        answer = self._connection.get(DATASETS, {"name": name, "limit": limit, "offset": offset})
        return [Dataset.from_wire(item, self._connection) for item in answer.get("datasets", [])]

    def get(self, dataset_id: str) -> Dataset:
        """The dataset with this id, as it is now. Raises DatasetNotFound."""
        return dataset_with_id(self._connection, dataset_id)

    def __getitem__(self, key: str) -> Dataset:
        """By id, by name, by `name:version` or by `name_v2`. Raises DatasetNotFound."""
        return dataset_of(self._connection, key)

    def delete(self, dataset: Dataset | str) -> None:
        """Forget its rows; what was spent of its privacy stays written. A name alone is not enough.

        Raises DatasetNotFound, DatasetInUse.
        """
        dataset_id = dataset.dataset_id if isinstance(dataset, Dataset) else dataset
        self._connection.delete(path_of_one(DATASETS, dataset_id, DatasetNotFound))

    # ------------------------------------------------------------------------- how it sends
    def _population(self, population: Dataset | str | None) -> str | None:
        return population if population == NEW else dataset_id_of(population, self._connection)

    def _upload_file(
        self, source: Any, told: dict[str, Any], progress: Watcher | bool, wait: bool
    ) -> Dataset:
        with source_file(source) as file:
            if "name" not in told:
                told["name"] = file.stem
            dataset = self.get(Upload(self._connection, file, progress).send(told))
        return dataset.wait() if wait else dataset

    def _register(
        self, name: str, rows: Mapping[str, Any], unit_ids: Any, policy: Mapping[str, Any]
    ) -> Dataset:
        units = {} if unit_ids is None else {"unit_ids": numbered(unit_ids)}
        if "texts" in rows:
            body = Body.of_json({"name": name, **policy, **units, **rows})
            answer = self._connection.post(DATASETS, body, answer_seconds=UPLOAD_SECONDS)
        else:
            body = tensors_body({**rows, **units})
            query = {"name": name, **policy}
            answer = self._connection.post(DATASETS, body, query, answer_seconds=UPLOAD_SECONDS)
        return Dataset.from_wire(answer, self._connection)


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _said(
    *,
    classes: Sequence[str] | None,
    ranges: Mapping[str, Sequence[float]] | None,
    categories: Mapping[str, Sequence[str]] | None,
    **others: str | None,
) -> dict[str, Any]:
    """What is said of a file, as JSON has it. Raises InvalidRequest."""
    if isinstance(classes, str):
        raise InvalidRequest('classes are a list of names, not one text: ["no", "yes"]')
    for column, values in {**(ranges or {}), **(categories or {})}.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise InvalidRequest(
                f'column {column}: a range is a pair of numbers, (0, 110), and categories a list, ["a", "b"]'
            )
    return _given(
        classes=None if classes is None else [str(each) for each in classes],
        ranges=_plain(ranges),
        categories=_plain(categories),
        **others,
    )


def _plain(by_column: Mapping[str, Sequence[Any]] | None) -> dict[str, list[Any]] | None:
    """Tuples and arrays as JSON has them."""
    if by_column is None:
        return None
    return {
        str(column): [value.item() if hasattr(value, "item") else value for value in values]
        for column, values in by_column.items()
    }


def _row_name(source: Any, name: str | None) -> str:
    """What rows are called. Raises InvalidRequest."""
    given = [each for each in (source, name) if each is not None]
    if len(given) != 1 or not isinstance(given[0], str):
        raise InvalidRequest("rows that are given as arrays or texts have one name: upload('name', …)")
    return given[0]
