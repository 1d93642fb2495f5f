from __future__ import annotations

import datetime
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tg_workbench import InvalidBatch
from tg_workbench.sdk.forms import form_of
from tg_workbench.sdk.frames import polars_frame
from tg_workbench.sdk.sources import SourceFile, source_file


def test_every_kind_of_pandas_column_is_a_column_of_a_file() -> None:
    missing = pd.DataFrame(
        {
            "whole": pd.array([1, None], "Int64"),
            "number": [1.5, np.nan],
            "text": ["a", None],
            "category": pd.Categorical(["u", None]),
            "flag": pd.array([True, None], "boolean"),
            "time": pd.to_datetime(["2026-01-02", None]),
            "day": [datetime.date(2026, 1, 2), None],
            7: [1, 2],
        },
        index=[5, 9],
    )
    frame = polars_frame(missing)
    assert frame.columns == ["whole", "number", "text", "category", "flag", "time", "day", "7"]
    assert frame.row(0)[:5] == (1, 1.5, "a", "u", True)
    assert frame.row(1) == (None,) * 7 + (2,)
    assert [str(kind) for kind in frame.dtypes][:2] == ["Int64", "Float64"]


def test_what_no_table_file_holds_is_named() -> None:
    with pytest.raises(InvalidBatch, match="column mixed holds values of several types"):
        polars_frame(pd.DataFrame({"mixed": [1, "a"]}))
    with pytest.raises(InvalidBatch, match="column things holds values of several types"):
        polars_frame(pd.DataFrame({"things": [object(), 1]}))
    with pytest.raises(InvalidBatch, match="a Series is no table"):
        polars_frame(pd.Series([1, 2]))
    with pytest.raises(InvalidBatch, match="column a is there twice"):
        polars_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert polars_frame(pl.DataFrame({"a": [1]}).lazy()).row(0) == (1,)


def test_a_folder_is_the_same_zip_each_time_and_hides_what_is_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for name in ("cat/1.png", "dog/2.png", ".git/config", "cat/.DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    with source_file(folder) as first, source_file(str(folder)) as second:
        assert first.digest() == second.digest()
        assert (first.name, first.stem) == ("pets.zip", "pets")
        with zipfile.ZipFile(first.path) as archive:
            assert archive.namelist() == ["cat/1.png", "dog/2.png"]
            assert archive.read("dog/2.png") == b"dog/2.png"
    assert not first.path.exists()


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "key.png").symlink_to("/etc/passwd")
    with pytest.raises(InvalidBatch, match=r"key\.png is a link"), source_file(tmp_path / "pets"):
        pass


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.xlsx", b"x", "none of .csv"),
        ("model.pkl", b"x", "none of .csv"),
        ("rows.csv", b"", "empty"),
    ],
)
def test_a_file_that_cannot_be_uploaded_is_said(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidBatch, match=words), source_file(tmp_path / name):
        pass


@pytest.mark.parametrize("source", [None, 7, [1, 2], np.ones(3), "no_such_name"])
def test_what_is_no_dataset_says_what_is_one(source: object) -> None:
    with pytest.raises(InvalidBatch, match="give a path, a DataFrame, or a name"), source_file(source):
        pass


def test_a_form_is_the_same_each_time_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / 'a"b.csv'
    path.write_bytes(b"x,y\r\n1,2")
    form = form_of(SourceFile(path, path.name), {"name": "ünï", "classes": ["a", "b"]})
    content = b"".join(form.content)
    assert content == b"".join(form.content)
    assert len(content) == form.size
    assert b'filename="a%22b.csv"\r\n\r\nx,y\r\n1,2\r\n--' in content
    assert 'name="classes"\r\n\r\n["a", "b"]\r\n' in content.decode()
