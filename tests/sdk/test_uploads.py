"""Files, tables and folders, handed over and read by a running workbench."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from tg_workbench import (
    DatasetInvalid,
    DatasetNotFound,
    DatasetWarning,
    InvalidBatch,
    InvalidRequest,
    PrivacyRefused,
    TrainingClient,
    Workbench,
)
from tg_workbench.sdk import Dataset

NewClient = Callable[..., TrainingClient]

ROWS = 60
CLASSES = ("no", "yes")


def patients() -> dict[str, list[Any]]:
    """Columns of several kinds, told apart by age."""
    ages = [20 + number % 60 for number in range(ROWS)]
    return {
        "age": ages,
        "weight": [None if number % 7 == 0 else 50.5 + number for number in range(ROWS)],
        "smokes": ["often" if number % 3 else "never" for number in range(ROWS)],
        "sick": ["yes" if age > 50 else "no" for age in ages],
    }


@pytest.fixture
def csv(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The same as a file, and in no two tests of the same people."""
    path = tmp_path / f"{request.node.originalname} patients.csv"
    rows = {**patients(), "room": [f"{request.node.name} {number % 4}" for number in range(ROWS)]}
    pl.DataFrame(rows).write_csv(path)
    return path


def test_a_file_becomes_a_dataset_that_is_ready(workbench: Workbench, csv: Path) -> None:
    dataset = workbench.datasets.upload(csv, target="sick", description="made up", privacy="public")
    assert (dataset.name, dataset.status, dataset.size, dataset.target) == (csv.stem, "ready", ROWS, "sick")
    assert (dataset.file_name, dataset.file_format) == (csv.name, "csv")
    assert dataset.encoding is not None
    assert set(dataset.encoding["inputs"]) == {"age", "weight", "smokes", "room"}
    assert tuple(dataset.encoding["class_names"]) == CLASSES
    assert dataset.profile is not None
    assert dataset.profile["rows"] == ROWS
    assert str(dataset) == f"{csv.stem}: {ROWS} rows, public"
    assert int(dataset.preview()[0]["age"]) == 20


def test_a_protected_dataset_shows_no_rows(workbench: Workbench, csv: Path) -> None:
    dataset = workbench.datasets.upload(
        str(csv), "in hospital", target="sick", ranges={"age": (0, 120)}, classes=CLASSES, epsilon_cap=5.0
    )
    assert (dataset.privacy, dataset.epsilon_cap) == ("protected", 5.0)
    with pytest.raises(PrivacyRefused, match="shows no rows"):
        dataset.preview()
    assert dataset.profile is not None
    assert dataset.profile["covered_by_epsilon"] is False


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_a_table_is_uploaded_as_it_is_in_the_notebook(workbench: Workbench, kind: Any) -> None:
    frame = kind(patients())
    dataset = workbench.datasets.upload(frame, f"table of {kind.__module__}", target="sick", privacy="public")
    assert (dataset.file_format, dataset.size) == ("parquet", ROWS)
    columns = {column["name"]: column for column in (dataset.profile or {})["columns"]}
    assert columns["weight"]["missing"] == len([number for number in range(ROWS) if number % 7 == 0])


def test_a_folder_of_class_folders_becomes_images(workbench: Workbench, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for number in range(8):
        place = folder / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 6), 30 * number, np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    (folder / ".DS_Store").write_bytes(b"of another program")
    dataset = workbench.datasets.upload(folder, privacy="public")
    assert (dataset.name, dataset.size, dataset.file_format) == ("pets", 8, "zip")
    assert dataset.tensors is not None
    assert dataset.tensors["features"]["shape"] == [8, 1, 6, 6]
    assert dataset.encoding is not None
    assert tuple(dataset.encoding["class_names"]) == ("cat", "dog")


def test_a_large_file_arrives_in_pieces_and_is_told_of(
    workbench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.csv"
    noise = np.random.default_rng(0).normal(size=(120_000, 5))
    pl.DataFrame(noise, schema=["a", "b", "c", "d", "y"]).write_csv(path)
    seen: list[tuple[int, int]] = []
    dataset = workbench.datasets.upload(
        path, target="y", privacy="public", progress=lambda sent, size: seen.append((sent, size))
    )
    size = path.stat().st_size
    assert size > 8 << 20
    told = [sent for sent, _ in seen]
    assert (told[:2], told[-1]) == ([0, 4 << 20], size), "pieces grow while the line is quick"
    assert told == sorted(set(told))
    assert dataset.size == 120_000
    again = dataset.download(tmp_path / "again.csv")
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(FileExistsError):
        dataset.download(again)
    workbench.datasets.upload(path, target="y", privacy="public")
    assert "many.csv · " in capsys.readouterr().err


def test_a_file_that_is_no_good_says_where(workbench: Workbench, tmp_path: Path) -> None:
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("age,sick\n1,yes\n2,no,maybe\n3,no\n")
    found = workbench.datasets.validate(ragged)
    assert not found
    assert "line 3: has 3 values" in str(found)
    with pytest.raises(DatasetInvalid, match="line 3"):
        workbench.datasets.upload(ragged)
    waiting = workbench.datasets.upload(ragged, "ragged later", wait=False)
    assert waiting.status in ("processing", "failed")
    with pytest.raises(DatasetInvalid):
        waiting.wait(timeout=60)
    assert (waiting.status, "line 3" in (waiting.reason or "")) == ("failed", True)
    assert "failed" in str(waiting)


@pytest.fixture
def indexed(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file as pandas writes it, with an index; one of its columns says nothing. Both are left out."""
    path = tmp_path / "indexed.csv"
    rooms = [f"{request.node.name} {number % 4}" for number in range(ROWS)]
    pd.DataFrame({**patients(), "room": rooms, "empty": [None] * ROWS}).to_csv(path)
    return path


def test_what_is_found_in_a_file_is_warned_of_at_the_line_that_uploads_it(
    workbench: Workbench, indexed: Path
) -> None:
    with pytest.warns(DatasetWarning) as caught:
        dataset = workbench.datasets.upload(indexed, "warned of", target="sick", privacy="public")
    said = [str(each.message) for each in caught]
    assert said == [f"warned of: {text}" for text in dataset.warnings]
    assert len(said) == 2
    assert "column 1 has no name" in said[0]
    assert "column empty says nothing" in said[1]
    assert {each.filename for each in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataset.wait() is dataset, "it has warned already"
    listed = next(each for each in workbench.datasets.list(name="warned of"))
    assert list(listed.warnings) == list(workbench.datasets.get(dataset.id).warnings) == [*dataset.warnings]


def test_who_does_not_wait_is_warned_once_when_they_do(workbench: Workbench, indexed: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = workbench.datasets.upload(indexed, "later", target="sick", privacy="public", wait=False)
    with pytest.warns(DatasetWarning) as caught:
        dataset.wait()
    assert [str(each.message) for each in caught] == [f"later: {text}" for text in dataset.warnings]
    assert {each.filename for each in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.refresh().wait()


def test_a_file_with_nothing_to_warn_of_is_uploaded_in_silence(workbench: Workbench, csv: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = workbench.datasets.upload(csv, "in silence", target="sick", privacy="public")
    assert not dataset.warnings
    rows = workbench.datasets.upload(
        "silent rows", features=3 * np.eye(4, dtype=np.float32), targets=range(4)
    )
    assert not rows.warnings


def test_a_protected_name_never_becomes_public(workbench: Workbench, csv: Path, tmp_path: Path) -> None:
    known = workbench.datasets.upload(csv, "one ward", target="sick")
    path = tmp_path / "one ward.csv"
    table = pl.read_csv(csv)
    pl.concat([table, table.head(1)]).write_csv(path)
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label("neg", "pos")}
    saved = save_to_disk(tmp_path / "saved", pl.DataFrame({"text": ["a", "b"], "label": [1, 0]}), features)
    open_to_all: dict[str, Any] = {"target": "sick", "privacy": "public"}
    doors: list[Callable[[], object]] = [
        lambda: workbench.datasets.upload(path, **open_to_all),
        lambda: workbench.datasets.upload(pl.read_csv(path), "one ward", **open_to_all),
        lambda: workbench.datasets.upload("one ward", texts=["a", "b"], privacy="public"),
        lambda: workbench.datasets.upload("one ward", features=[[1.0]], targets=[0], privacy="public"),
        lambda: workbench.datasets.from_sklearn("wine", "one ward", privacy="public"),
        lambda: workbench.datasets.from_huggingface(saved, "one ward", privacy="public"),
    ]
    for knock in doors:
        with pytest.raises(PrivacyRefused, match=f"{known.dataset_id}.*another name"):
            knock()
    with pytest.raises(InvalidRequest, match=f"{known.dataset_id}.*another name"):
        workbench.datasets.validate(path, **open_to_all)
    assert [version.privacy for version in known.versions()] == ["protected"]
    assert workbench.datasets.validate(path, "an open ward", **open_to_all)


def test_a_file_is_validated_and_not_kept(workbench: Workbench, csv: Path) -> None:
    before = [listed.id for listed in workbench.datasets.list()]
    found = workbench.datasets.validate(csv, target="sick")
    assert found.valid
    assert found.summary is not None
    assert found.summary["rows"] == ROWS
    assert [listed.id for listed in workbench.datasets.list()] == before
    missing = workbench.datasets.validate(csv, target="nothing of the kind")
    assert not missing.valid


def test_the_same_name_twice_is_two_versions(workbench: Workbench) -> None:
    first = workbench.datasets.upload(pl.DataFrame(patients()), "twice", target="sick", privacy="public")
    changed = {**patients(), "age": [age + 1 for age in patients()["age"]]}
    second = workbench.datasets.upload(pl.DataFrame(changed), "twice", target="sick", privacy="public")
    assert (first.version, second.version) == (1, 2)
    assert [each.id for each in first.versions()] == [second.id, first.id]
    assert str(second).startswith("twice (version 2): ")
    second.delete()
    with pytest.raises(DatasetNotFound):
        workbench.datasets[second.id]


def test_a_dataset_is_found_by_its_name_and_version(workbench: Workbench, new_client: NewClient) -> None:
    def upload(name: str) -> Dataset:
        rows = np.random.default_rng().normal(size=(20, 4)).astype(np.float32)
        return workbench.datasets.upload(name, features=rows, targets=[0, 1] * 10, privacy="public")

    first, second = upload("sought"), upload("sought")
    colon, café, like_an_id = upload("sought:1"), upload("cafe\u0301"), upload("ds-sought")
    found = workbench.datasets
    assert found["sought"].id == found["sought:2"].id == found["sought_v2"].id == second.id
    assert found["sought_v1"].id == found[first.id].id == first.id
    assert found["sought:1"].id == found["sought:1:1"].id == colon.id, "a name before a version"
    assert (found["caf\u00e9"].id, found["cafe\u0301"].id) == (café.id, café.id)
    assert found["ds-sought"].id == like_an_id.id
    client = new_client("mlp", dataset="sought:2", max_steps=3)
    assert client.config["dataset_id"] == second.id
    assert workbench.ledger(dataset="sought").events == []


@pytest.mark.parametrize("key", ["never given", "sought:9", "ds-never", "n" * 300, "n\0", "a/b", "", None])
def test_a_dataset_that_is_not_there_is_told_with_what_to_do(workbench: Workbench, key: Any) -> None:
    with pytest.raises(DatasetNotFound, match=r"there is no dataset .*: wb.datasets.list\(\) shows"):
        workbench.datasets[key]


def test_a_job_of_a_name_that_is_not_there_says_so(workbench: Workbench) -> None:
    with pytest.raises(DatasetNotFound, match="there is no dataset never given: "):
        workbench.jobs.submit("mlp", "never given")
    with pytest.raises(DatasetNotFound):
        workbench.datasets.delete("points")


@pytest.mark.parametrize("known", ["breast_cancer", "diabetes", "digits", "iris", "wine"])
def test_scikit_learns_own_datasets_are_uploaded_without_a_download(workbench: Workbench, known: str) -> None:
    dataset = workbench.datasets.from_sklearn(known, f"public {known}", privacy="public")
    assert (dataset.name, dataset.status, dataset.target) == (f"public {known}", "ready", "target")
    assert dataset.encoding is not None
    assert dataset.encoding["task"] == ("regression" if known == "diabetes" else "classification")
    if known == "breast_cancer":
        assert tuple(dataset.encoding["class_names"]) == ("malignant", "benign")


def save_to_disk(folder: Path, rows: pl.DataFrame, features: dict[str, Any]) -> Path:
    """What `datasets` writes: rows as Arrow streams, a description, and which files there are."""
    import json

    folder.mkdir(parents=True)
    half = len(rows) // 2
    names = []
    for number, part in enumerate((rows[:half], rows[half:])):
        names.append(f"data-{number:05d}-of-00002.arrow")
        part.write_ipc_stream(folder / names[-1], compat_level=pl.CompatLevel.oldest())
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train", "_indices_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def label(*names: str) -> dict[str, Any]:
    return {"names": list(names), "_type": "ClassLabel"}


def test_a_saved_huggingface_dataset_of_texts_is_uploaded(workbench: Workbench, tmp_path: Path) -> None:
    rows = pl.DataFrame({"text": ["good film", "bad film"] * 10, "label": [1, 0] * 10})
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label("neg", "pos")}
    save_to_disk(tmp_path / "films" / "train", rows, features)
    (tmp_path / "films" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(InvalidRequest, match="splits train, test"):
        workbench.datasets.from_huggingface(tmp_path / "films")
    dataset = workbench.datasets.from_huggingface(
        tmp_path / "films", "films", split="train", privacy="public"
    )
    assert (dataset.size, dataset.dataset_type) == (20, "text_classification")
    assert dataset.encoding is not None
    assert tuple(dataset.encoding["class_names"]) == ("neg", "pos")


def test_a_saved_huggingface_dataset_of_images_is_uploaded(workbench: Workbench, tmp_path: Path) -> None:
    def png(value: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((5, 5), value, np.uint8)).save(file, "PNG")
        return file.getvalue()

    images = [{"bytes": png(20 * number), "path": None} for number in range(8)]
    rows = pl.DataFrame({"image": images, "label": [number % 2 for number in range(8)]})
    folder = save_to_disk(tmp_path / "faces", rows, {"image": {"_type": "Image"}, "label": label("a", "b")})
    dataset = workbench.datasets.from_huggingface(folder, privacy="public")
    assert (dataset.name, dataset.size, dataset.file_format) == ("faces", 8, "zip")


def test_rows_go_by_their_name_as_before(workbench: Workbench) -> None:
    rows: dict[str, Any] = {"features": np.eye(4, dtype=np.float32), "targets": np.arange(4)}
    assert workbench.datasets.upload("named", **rows, privacy="public").name == "named"
    assert workbench.datasets.upload(name="also named", **rows, privacy="public").name == "also named"
    with pytest.raises(InvalidRequest, match="only with a file"):
        workbench.datasets.upload("named", **rows, target="y")
    with pytest.raises(InvalidBatch, match="no file patients"):
        workbench.datasets.upload("patients")
    with pytest.raises(FileNotFoundError):
        workbench.datasets.upload("patients.csv")


def test_a_dataset_that_comes_from_nowhere_says_so() -> None:
    with pytest.raises(Exception, match="comes from no workbench"):
        Dataset("ds-1").refresh()


def test_a_bomb_is_refused_in_words(workbench: Workbench, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.csv", b"0" * (80 << 20))
    with pytest.raises(DatasetInvalid):
        workbench.datasets.upload(bomb)
