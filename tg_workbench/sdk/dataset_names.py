"""Which dataset is meant: by its id, by its name (the newest version), by `name:2` or by `name_v2`.

What begins with `ds-` is an id before it is a name, and what is a name as a whole is one before it names a
version: a name may hold colons.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from tg_workbench.errors import DatasetNotFound
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.datasets import DATASETS, Dataset
from tg_workbench.sdk.paths import path_of_one
from tg_workbench.sdk.versions import name_and_version
from tg_workbench.sdk.wire_errors import rebuilt

ID = "ds-"
LONGEST_NAME = 200
PAGE = 100


def dataset_of(connection: Connection, key: str) -> Dataset:
    """The dataset with this id, this name, or this name and version. Raises DatasetNotFound."""
    if not isinstance(key, str):
        raise _missing(key)
    if key.startswith(ID):
        try:
            return dataset_with_id(connection, key)
        except DatasetNotFound:  # it may be a name all the same
            pass
    for dataset in _versions(connection, key, 1):
        return dataset
    if parts := name_and_version(key):
        name, version = parts
        for dataset in _versions(connection, name):
            if dataset.version == version:
                return dataset
    raise _missing(key)


def dataset_with_id(connection: Connection, dataset_id: str) -> Dataset:
    """The dataset with this id, as it is now. Raises DatasetNotFound."""
    told = connection.get(path_of_one(DATASETS, dataset_id, DatasetNotFound))
    return Dataset.from_wire(told, connection)


def dataset_id_of(dataset: Dataset | str | None, connection: Connection) -> str | None:
    """The id of a dataset that is given whole, by its id or by its name; only a name has to be asked for.

    Raises DatasetNotFound.
    """
    if isinstance(dataset, Dataset):
        return dataset.dataset_id
    if dataset is None or (isinstance(dataset, str) and dataset.startswith(ID)):
        return dataset
    return dataset_of(connection, dataset).dataset_id


def _versions(connection: Connection, name: str, page: int = PAGE) -> Iterator[Dataset]:
    """Those with a name, the newest first. Names are kept in composed characters (NFC), without blanks."""
    name = unicodedata.normalize("NFC", name.strip())
    if not name or len(name) > LONGEST_NAME or "\0" in name:
        return
    offset = 0
    while True:
        asked = {"name": name, "limit": page, "offset": offset}
        found = connection.get(DATASETS, asked).get("datasets", [])
        yield from (Dataset.from_wire(each, connection) for each in found)
        if len(found) < page:
            return
        offset += page


def _missing(key: object) -> Exception:
    told = f"there is no dataset {key}: wb.datasets.list() shows those there are"
    return rebuilt(DatasetNotFound, told, {})
