"""Parquet that cannot be a table, or that would grow beyond every bound."""

from __future__ import annotations

import io
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits
from tg_workbench.datasets.files.parquet import ParquetTable
from tg_workbench.errors import InvalidRequest


def parquet(columns: dict[str, Any], **how: Any) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(columns, strict=False).write_parquet(file, **how)
    return file.getvalue()


@pytest.mark.parametrize(
    "values", [[[1], [2]], [{"a": 1}, {"a": 2}], [b"x", b"y"]], ids=["lists", "structs", "bytes"]
)
def test_nested_columns_are_refused_by_name(desk: Desk, values: list[Any]) -> None:
    (found,) = desk.refuse("t.parquet", parquet({"a": values, "y": [0, 1]}))
    assert found["where"] == "column a"


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4", "brotli", "uncompressed"])
def test_every_compression_is_read_and_bounded(desk: Desk, compression: Any) -> None:
    data = parquet({"a": ["x" * 1_000] * 5_000, "y": [0, 1] * 2_500}, compression=compression)
    assert desk.take("t.parquet", data).prepared.size == 5_000
    rows = parquet({"a": np.arange(50_000), "y": np.arange(50_000) % 2}, compression=compression)
    for small in (Limits(page_bytes=1_000), Limits(decoded_bytes=10_000)):
        assert "would decode to more than" in desk.refuse("t.parquet", rows, small)[0]["problem"]


def test_rows_and_columns_are_bounded_before_anything_is_decoded(desk: Desk) -> None:
    data = parquet({"a": [1] * 1_000, "b": [1] * 1_000, "y": [0, 1] * 500})
    assert desk.refuse("t.parquet", data, Limits(rows=999))[0]["problem"] == "has more than 999 rows"
    assert desk.refuse("t.parquet", data, Limits(columns=2))[0]["problem"] == "has more than 2 columns"


def test_types_of_its_own_are_read(desk: Desk) -> None:
    columns = {
        "day": [date(2020, 1, 1), None],
        "moment": [datetime(2020, 1, 1, 12), datetime(2021, 1, 1)],
        "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
        "^a.*$": [1.5, float("nan")],
        "y": [0, 1],
    }
    found = desk.take("t.parquet", parquet(columns), privacy="public").prepared
    assert {column.name: column.type for column in found.inspection.columns} == {
        "day": "date",
        "moment": "date",
        "kind": "category",
        "^a.*$": "number",
        "y": "number",
    }


def test_nul_in_a_text_is_told_by_its_row(desk: Desk) -> None:
    (found,) = desk.refuse("t.parquet", parquet({"a": ["x", "S3\0"], "y": [0, 1]}))
    assert found["where"] == "row 2, column a"


def test_any_damage_is_a_refusal(desk: Desk) -> None:
    whole = parquet({"a": np.arange(200) / 7, "b": ["x", "y"] * 100, "y": [0, 1] * 100})
    random = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(4, len(data), 3):
            data[place] = random.integers(256)
        try:
            desk.take("t.parquet", bytes(data))
        except InvalidRequest:
            continue
    for cut in (5, 12, len(whole) // 2, len(whole) - 1):
        assert desk.refuse("t.parquet", whole[:cut])


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical], ids=["texts", "categories"])
def test_one_long_text_said_a_thousand_times_takes_no_memory(
    desk: Desk, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pl.Series(["x" * 100_000], dtype=kind).new_from_index(0, 1_000)
    data = parquet({"text": text, "label": [0, 1] * 500})
    assert len(data) < 5_000
    said = desk.refuse("t.parquet", data, Limits(decoded_bytes=50_000_000), dataset_type="classification")
    assert "would decode to more than" in said[0]["problem"]
    heights: list[int] = []
    frames = ParquetTable.frames

    def seen(table: ParquetTable) -> Any:
        for row, frame in frames(table):
            heights.append(frame.height)
            yield row, frame

    monkeypatch.setattr(ParquetTable, "frames", seen)
    assert desk.take("t.parquet", data, dataset_type="text_classification").prepared.size == 1_000
    assert max(heights) <= Limits().chunk_bytes // 100_000


def test_a_moment_is_read_alike_with_its_zone_and_as_a_text(desk: Desk) -> None:
    moments = pl.Series(["2024-06-01T00:30:00+02:00", "2024-12-31T00:00:00+01:00"]).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%z", time_zone="Europe/Berlin"
    )
    texts = "t,y\n" + "".join(f"{moment.isoformat()},{n}\n" for n, moment in enumerate(moments))
    table = desk.take("t.parquet", parquet({"t": moments, "y": [0, 1]})).prepared
    words = desk.take("t.csv", texts).prepared
    assert (table.rows_digest, table.cells_digest) == (words.rows_digest, words.cells_digest)


def test_days_are_one_table_as_dates_as_moments_and_as_texts(desk: Desk) -> None:
    days = [date(2024, 12, 31), date(2023, 2, 1)]
    moments = [datetime(day.year, day.month, day.day) for day in days]
    known = desk.take("t.csv", "t,y\n2024-12-31,0\n2023-02-01,1\n").prepared.cells_digest
    for values in (days, moments):
        assert desk.take("t.parquet", parquet({"t": values, "y": [0, 1]})).prepared.cells_digest == known
