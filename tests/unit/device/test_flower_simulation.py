"""Simulations by Flower where there is no Flower: they are checked, and refused with the reason."""

from __future__ import annotations

import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.federation.conftest import rows_of
from tg_workbench.device.flower_simulation import flower_python, flower_strategy
from tg_workbench.errors import InvalidBatch, InvalidField, Refused
from tg_workbench.federation.flower import flower_names, process
from tg_workbench.sdk.device import Simulation, simulate

DEVICES = [rows_of(1), rows_of(2)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go; there are none at the end."""
    monkeypatch.delenv("TG_FLOWER_PYTHON", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("tg_workbench.device.flower_simulation.LONGEST_FOLDER", 1000)
    return tmp_path


def program(folder: Path, body: str) -> Path:
    """A program in place of Flower's Python."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backend": "ray"}, "backend: must be one of in-process, flower"),
        (
            {"backend": "flower", "strategy": "scaffold"},
            "Flower simulates fedavg, flower:Bulyan, .*flower:MultiKrum",
        ),
        ({"backend": "flower", "strategy": "flower:FedNone"}, "flower:FedYogi"),
        ({"backend": "flower", "strategy": "fedavg", "strategy_options": {"eta": 1.0}}, "strategy options"),
        ({"backend": "flower", "strategy": "flower:FedYogi", "strategy_options": {"eta": -1}}, "options.eta"),
        ({"strategy": "flower:FedYogi"}, "strategy"),
    ],
)
def test_what_flower_does_not_simulate_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidField, match=said):
        Simulation(**wrong)


def test_our_fedavg_is_flowers_and_its_own_keep_their_names() -> None:
    assert flower_strategy("fedavg", {}).kind == "flower:FedAvg"
    assert [flower_strategy(name, {}).kind for name in flower_names()] == list(flower_names())


def test_without_an_environment_it_says_what_to_set_and_how_to_get_it() -> None:
    with pytest.raises(InvalidField, match="TG_FLOWER_PYTHON; `make flower`"):
        simulate(DEVICES, backend="flower")


@pytest.mark.parametrize("path", ["python", "/nowhere/python", "/etc/passwd", "/tmp"])
def test_what_is_no_program_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidField, match="flower_python"):
        flower_python(path)
    monkeypatch.setenv("TG_FLOWER_PYTHON", path)
    with pytest.raises(InvalidField, match="flower_python"):
        simulate(DEVICES, backend="flower")


def test_a_python_without_flower_is_refused_and_leaves_nothing(place: Path) -> None:
    with pytest.raises(Refused, match="no Flower that will do"):
        simulate(DEVICES, backend="flower", flower_python=sys.executable)
    assert not list(place.iterdir())


def test_one_that_dies_is_an_error_with_its_last_words(tmp_path: Path, place: Path) -> None:
    python = program(tmp_path, "sys.stderr.write('x' * 9000 + '\\x1b[31mout of luck'); sys.exit(1)")
    with pytest.raises(Refused, match=r"is gone; its last words: x{1900,1989}out of luck$"):
        simulate(DEVICES, backend="flower", flower_python=python)
    assert list(place.iterdir()) == [python]


def test_nobody_waits_for_ever(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(Refused, match="after 0 seconds"):
        simulate(DEVICES, backend="flower", flower_python=program(tmp_path, "time.sleep(60)"))
    assert time.monotonic() - began < 10.0
    assert [path.name for path in place.iterdir()] == ["python"]


def test_rows_that_cannot_be_read_are_refused_before_anything_begins(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    python = program(tmp_path, f"open({str(begun)!r}, 'w')")
    wrong = {"features": np.array([["a"], [None]], object), "targets": np.arange(2)}
    with pytest.raises(InvalidBatch):
        simulate([wrong], backend="flower", flower_python=python, output_size=2)
    assert not begun.exists()


def test_rows_lie_where_only_this_user_reads_them_and_it_is_told_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TG_API_KEY", "secret")
    seen = tmp_path / "seen"
    told = "oct(os.stat('.').st_mode), sorted(os.listdir()), dict(os.environ)"
    body = f"open({str(seen)!r}, 'w').write(repr([{told}]))"
    with pytest.raises(Refused):
        simulate(DEVICES, backend="flower", flower_python=program(tmp_path, body))
    said = seen.read_text()
    assert said.startswith("['0o40700', ['rows-0.npz', 'rows-1.npz', 'task.json']")
    assert "'RAY_USAGE_STATS_ENABLED': '0'" in said
    assert "'FLWR_TELEMETRY_ENABLED': '0'" in said
    assert "secret" not in said
