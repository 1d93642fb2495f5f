"""Flower's strategies where there is no Flower: they are checked, and refused with the reason."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tg_workbench.errors import InvalidField, InvalidSetting, Refused, TooFewUpdates, UpdateInvalid
from tg_workbench.federation.flower import flower_names, process, require_flower, strategy_named
from tg_workbench.federation.flower.process import FlowerLost, FlowerProcess
from tg_workbench.federation.strategies import Aggregation, Strategy, Update
from tg_workbench.settings import Settings

ZEROS = np.zeros(4, np.float32)


def program(folder: Path, body: str) -> Path:
    """A program in place of Flower's Python, which is named the script to run and runs `body`."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def begun(monkeypatch: pytest.MonkeyPatch, python: Path | str, home: Path) -> Aggregation:
    """A round of FedAvg by this Python."""
    monkeypatch.setenv("TG_FLOWER_PYTHON", str(python))
    monkeypatch.setenv("TG_HOME", str(home))
    return strategy_named("flower:FedAvg").begin(ZEROS, {})


def gone(pid: int) -> bool:
    """Whether a process is no more, within some seconds."""
    deadline = time.monotonic() + 10.0
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("name", flower_names())
def test_every_one_is_a_strategy_that_sees_each_update(name: str) -> None:
    found = strategy_named(name)
    assert isinstance(found, Strategy)
    assert found.needs_each_update


def test_ours_keep_their_names() -> None:
    assert strategy_named("fedavg").name == "fedavg"


def test_fedprox_has_devices_stay_near() -> None:
    assert strategy_named("flower:FedProx", proximal_mu=0.25).local.proximal == 0.25
    assert strategy_named("flower:FedYogi", eta=0.25).local.proximal == 0.0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flower:", {}),
        ("flower:fedavg", {}),
        ("flower:QFedAvg", {}),
        ("flower:DifferentialPrivacyServerSideFixedClipping", {}),
        ("flower:__class__", {}),
        ("flower:FedAvg", {"fraction_train": 0.5}),
        ("flower:FedYogi", {"eta": "0.1"}),
        ("flower:FedYogi", {"eta": True}),
        ("flower:FedYogi", {"beta_1": 1.0}),
        ("flower:FedTrimmedAvg", {"beta": 0.5}),
        ("flower:MultiKrum", {"num_nodes_to_select": 1.5}),
    ],
)
def test_what_it_does_not_know_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        strategy_named(name, **options)


def test_without_an_environment_it_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidField, match="TG_FLOWER_PYTHON names its Python"):
        require_flower(None)
    monkeypatch.delenv("TG_FLOWER_PYTHON", raising=False)
    with pytest.raises(InvalidField, match="TG_FLOWER_PYTHON names its Python"):
        strategy_named("flower:FedAvg").begin(ZEROS, {})


@pytest.mark.parametrize("path", ["python", "/nowhere/python", "/etc/passwd", "/tmp"])
def test_a_setting_that_names_no_program_is_refused_at_start(path: str) -> None:
    with pytest.raises(InvalidSetting, match="TG_FLOWER_PYTHON"):
        Settings.from_environment({"TG_FLOWER_PYTHON": path})


def test_a_python_without_flower_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="no Flower that will do"):
        aggregated(begun(monkeypatch, sys.executable, tmp_path))


def aggregated(aggregation: Aggregation) -> None:
    """One round of one update."""
    aggregation.add(Update(ZEROS + 1, 2.0))
    aggregation.finish()


@pytest.mark.parametrize("body", ["sys.exit(1)", "os.kill(os.getpid(), 9)", "os.write(1, b'x' * 4096)"])
def test_a_process_that_is_gone_or_talks_nonsense_is_lost(
    body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(FlowerLost):
        aggregated(begun(monkeypatch, program(tmp_path, body), tmp_path))


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "MOST_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(Refused, match="had not aggregated"):
        aggregated(begun(monkeypatch, program(tmp_path, "time.sleep(60)"), tmp_path))
    assert time.monotonic() - began < 10.0


def test_the_whole_group_is_gone_at_the_end(tmp_path: Path) -> None:
    python = program(tmp_path, "print(os.fork(), flush=True) or time.sleep(60)")
    with FlowerProcess(python, tmp_path) as running:
        assert running._process.stdout is not None
        child = int(running._process.stdout.readline() or 0) or int(running._process.stdout.readline())
        pids = [running.pid, child]
        assert os.getpgid(running.pid) == running.pid != os.getpgid(0)
    assert all(gone(pid) for pid in pids)


def test_a_round_that_nobody_finishes_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aggregation = begun(monkeypatch, program(tmp_path, "time.sleep(60)"), tmp_path)
    pid = aggregation._process.pid  # type: ignore[attr-defined]
    del aggregation
    assert gone(pid)


def test_a_round_of_nobody_and_an_update_of_another_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = program(tmp_path, "time.sleep(60)")
    with pytest.raises(TooFewUpdates):
        begun(monkeypatch, python, tmp_path).finish()
    with pytest.raises(UpdateInvalid):
        begun(monkeypatch, python, tmp_path).add(Update(np.zeros(5, np.float32), 1.0))
    with pytest.raises(UpdateInvalid, match="own update"):
        begun(monkeypatch, python, tmp_path).add(Update(ZEROS, 1.0, devices=2))


def test_it_is_told_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TG_API_KEY", "secret")
    python = program(tmp_path, "open('seen', 'w').write(repr(dict(os.environ))); time.sleep(60)")
    with FlowerProcess(python, tmp_path):
        deadline = time.monotonic() + 10.0
        while not (tmp_path / "seen").exists() or not (tmp_path / "seen").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    seen = (tmp_path / "seen").read_text()
    assert "TELEMETRY_ENABLED': '0'" in seen
    assert "secret" not in seen
