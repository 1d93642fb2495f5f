from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tg_workbench.device.row_files import rows_in
from tg_workbench.errors import InvalidBatch


def archive(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "rows.npz", **arrays)
    return folder / "rows.npz"


def table(folder: Path, *lines: str) -> Path:
    (folder / "rows.csv").write_text("\n".join([*lines, ""]))
    return folder / "rows.csv"


def test_an_archive_keeps_its_shape_and_is_read_as_models_do(tmp_path: Path) -> None:
    rows = rows_in(archive(tmp_path, features=np.zeros((3, 1, 8, 8)), targets=np.array([0, 1, 2], np.uint8)))
    assert rows["features"].shape == (3, 1, 8, 8)
    assert rows["features"].dtype == np.float32
    assert rows["targets"].dtype == np.int64


def test_a_table_is_its_target_and_the_other_columns_in_order(tmp_path: Path) -> None:
    rows = rows_in(table(tmp_path, "age,sick,smokes", "40,1,true", "50,0,false"), "sick")
    assert rows["features"].tolist() == [[40, 1], [50, 0]]
    assert rows["targets"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("lines", "target", "told"),
    [
        (["age,sick", "40,1"], None, "--target"),
        (["age,sick", "40,1"], "ill", "age, sick"),
        (["age,sick", "40,yes"], "sick", "column sick does not hold numbers"),
        (["age,sick", "40,1", ",0"], "sick", "column age has 1 missing"),
        (["age,sick", ",1", ",0"], "sick", "column age has 2 missing"),
        (["age,sick"], "sick", "has no rows"),
        ([], "sick", "holds no table"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, lines: list[str], target: str | None, told: str
) -> None:
    with pytest.raises(InvalidBatch, match=told):
        rows_in(table(tmp_path, *lines), target)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"features": np.zeros((3, 2))}, "no array called targets"),
        ({"features": np.zeros((3, 2)), "targets": np.zeros(2)}, "a row for each"),
        ({"features": np.zeros(3), "targets": np.zeros(3)}, "a row for each"),
        ({"features": np.zeros((3, 2)), "targets": np.array(1)}, "a row for each"),
        ({"features": np.zeros((0, 2)), "targets": np.zeros(0)}, "there are no rows"),
        ({"features": np.full((3, 2), np.nan), "targets": np.zeros(3)}, "finite"),
        ({"features": np.zeros((3, 2)), "targets": np.array(["a", "b", "c"])}, "are numbers"),
        ({"features": np.zeros((1, 2)), "targets": np.array([{}])}, "plain arrays"),
    ],
    ids=["no targets", "lengths", "dimensions", "one target", "no rows", "nan", "texts", "objects"],
)
def test_an_archive_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, arrays: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidBatch, match=told):
        rows_in(archive(tmp_path, **arrays))


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(b"PK nothing")
    (tmp_path / "rows.pkl").write_bytes(b"")
    with pytest.raises(InvalidBatch, match="broken"):
        rows_in(tmp_path / "rows.npz")
    with pytest.raises(InvalidBatch, match=r"\.npz or a \.csv"):
        rows_in(tmp_path / "rows.pkl")
    with pytest.raises(InvalidBatch, match="No such file"):
        rows_in(tmp_path / "none.npz")
