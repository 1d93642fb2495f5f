"""The bench runner keeps what ran and shows what was missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import __main__ as runner

ROW = {
    "bench": "step",
    "case": "mlp",
    "ours": 1.1,
    "peer": 1.0,
    "peer_name": "torch",
    "ratio": 1.1,
    "met": False,
}


def test_a_new_run_replaces_only_the_rows_of_its_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RESULTS", tmp_path / ".bench" / "results.json")
    other = {"bench": "start", "case": "api", "value": 1.5}
    runner.write([{**ROW, "case": "old"}])
    runner.write([other])
    runner.write([ROW])
    assert json.loads(runner.RESULTS.read_text()) == [other, ROW]


def test_a_row_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="either a ratio or a value"):
        runner.checked({"case": "mlp"}, "step")


def test_a_missed_target_stands_out_in_the_table() -> None:
    assert runner.table([ROW]).splitlines()[1].split() == ["mlp", "1.1", "1", "torch", "1.1", "NO"]
