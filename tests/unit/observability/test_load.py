"""The machine's load lies between nothing and all of it."""

from __future__ import annotations

import time

import pytest

from tg_workbench.observability import load
from tg_workbench.observability.load import Load


def test_memory_is_a_part_of_the_whole() -> None:
    assert 0 < Load().memory_percent <= 100


def test_a_busy_processor_is_seen_and_a_second_look_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LEAST_SECONDS", 0.2)
    machine = Load()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        sum(range(1000))
    seen = machine.cpu_percent
    assert 0 < seen <= 100
    monkeypatch.setattr(load, "LEAST_SECONDS", 60.0)
    assert machine.cpu_percent == seen
