"""The memory of tries is bounded, and forgets nobody who may be tried no more."""

from __future__ import annotations

import time

import pytest

from tg_workbench.contracts import tries as module
from tg_workbench.contracts.tries import MOST_TRIES, WINDOW_SECONDS, Tries


def noted(tries: Tries, who: str, times: int = MOST_TRIES) -> None:
    for _ in range(times):
        tries.note(who)


def test_it_remembers_no_more_names_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 5)
    tries = Tries()
    for number in range(20):
        tries.note(f"name-{number}")
    assert len(tries) == 5


def test_it_forgets_no_name_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 5)
    tries = Tries()
    noted(tries, "alice")
    noted(tries, "bob", 2)
    for number in range(20):
        tries.note(f"name-{number}")
    assert 0 < tries.seconds_left("alice") <= WINDOW_SECONDS
    assert len(tries) == 6


def test_what_is_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = Tries()
    noted(tries, "alice")
    noted(tries, "bob")
    later = time.monotonic() + WINDOW_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert tries.seconds_left("alice") == 0
    tries.note("alice")
    assert tries.seconds_left("alice") == 0
    assert len(tries) == 1


def test_the_right_password_forgives() -> None:
    tries = Tries()
    noted(tries, "alice")
    tries.forgive("alice")
    assert tries.seconds_left("alice") == 0
    assert len(tries) == 0
