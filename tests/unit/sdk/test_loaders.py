from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tg_workbench import InvalidRequest
from tg_workbench.sdk.loaders import bundled, saved_dataset

VALUE = {"dtype": "int64", "_type": "Value"}


def saved(folder: Path, rows: pl.DataFrame, features: dict[str, Any], **state: Any) -> Path:
    """What `datasets` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_ipc_stream(folder / "data.arrow", compat_level=pl.CompatLevel.oldest())
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    told = {"_data_files": [{"filename": "data.arrow"}], **state}
    (folder / "state.json").write_text(json.dumps(told))
    return folder


def read(folder: Path) -> Any:
    with saved_dataset(folder) as loaded:
        return loaded


def test_known_datasets_come_with_their_target_classes_and_ranges() -> None:
    iris = bundled("iris")
    assert iris.source.shape == (150, 5)
    assert iris.told["classes"] == ["setosa", "versicolor", "virginica"]
    assert set(iris.told["ranges"].values()) == {(0.0, 10.0)}
    assert "classes" not in bundled("diabetes").told
    with pytest.raises(InvalidRequest, match="california_housing"):
        bundled("california_housing")


def test_a_table_keeps_its_columns_and_names_its_classes(tmp_path: Path) -> None:
    rows = pl.DataFrame({"age": [1, 2, 3], "sick": [0, 1, -1]})
    features = {"age": VALUE, "sick": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    loaded = read(saved(tmp_path / "people", rows, features))
    assert loaded.source.rows() == [(1, "no"), (2, "yes"), (3, None)]
    assert (loaded.name, loaded.told) == ("people", {"target": "sick", "classes": ["no", "yes"]})


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ({"feature": VALUE, "_type": "Sequence"}, "column x is a Sequence"),
        ([VALUE], "column x is a list"),
        ({"dtype": "binary", "_type": "Value"}, "column x is a Value of binary"),
        ({"_type": "Audio"}, "column x is a Audio"),
        ({"_type": "__import__('os')"}, "column x"),
    ],
)
def test_what_cannot_be_learned_from_is_named(tmp_path: Path, feature: Any, words: str) -> None:
    folder = saved(tmp_path / "set", pl.DataFrame({"x": [1]}), {"x": feature})
    with pytest.raises(InvalidRequest, match=words.replace("(", r"\(")):
        read(folder)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"_data_files": [{"filename": "../../etc/passwd"}]}, "must lie in the folder"),
        ({"_data_files": [{"filename": "other.arrow"}]}, "is not there"),
        ({"_data_files": []}, "names no data files"),
        ({"_indices_files": [{"filename": "indices.arrow"}]}, "flatten_indices"),
    ],
)
def test_only_files_of_the_folder_itself_are_read(tmp_path: Path, state: dict[str, Any], words: str) -> None:
    folder = saved(tmp_path / "set", pl.DataFrame({"x": [1]}), {"x": VALUE}, **state)
    with pytest.raises(InvalidRequest, match=words):
        read(folder)


def test_a_folder_that_is_no_dataset_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no dataset_info\.json"):
        read(tmp_path)
    with pytest.raises(InvalidRequest, match="there is no folder"):
        read(tmp_path / "nothing")
    (tmp_path / "dataset_info.json").write_text("no JSON")
    with pytest.raises(InvalidRequest, match="is no JSON"):
        read(tmp_path)
    saved(tmp_path, pl.DataFrame({"x": [1]}), {"x": VALUE})
    (tmp_path / "data.arrow").write_bytes(b"\x80\x04no arrow")
    with pytest.raises(InvalidRequest, match="no Arrow stream"):
        read(tmp_path)
    with pytest.raises(InvalidRequest, match="leave split out"), saved_dataset(tmp_path, "train"):
        pass


def test_images_need_a_label_and_lie_in_the_file(tmp_path: Path) -> None:
    label = {"names": ["a", "../b"], "_type": "ClassLabel"}
    rows = pl.DataFrame({"image": [{"bytes": None, "path": "/etc/passwd"}], "label": [0]})
    with pytest.raises(InvalidRequest, match="only a path to it"):
        read(saved(tmp_path / "paths", rows, {"image": {"_type": "Image"}, "label": label}))
    with pytest.raises(InvalidRequest, match="one column ClassLabel"):
        read(saved(tmp_path / "bare", rows.drop("label"), {"image": {"_type": "Image"}}))
    inside = pl.DataFrame({"image": [{"bytes": b"\x89PNG", "path": None}], "label": [1]})
    with pytest.raises(InvalidRequest, match="no folder can have"):
        read(saved(tmp_path / "climbs", inside, {"image": {"_type": "Image"}, "label": label}))
