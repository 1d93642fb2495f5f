"""OpenAPI documents are made by a child, or here where that does not work."""

from __future__ import annotations

import os
import time

import pytest

from tg_workbench.contracts import openapi


def test_what_a_child_makes_arrives_whole() -> None:
    made = openapi._by_a_child(lambda: b"x" * 1_000_000 + str(os.getpid()).encode())
    assert made is not None
    assert int(made[1_000_000:]) != os.getpid()


def test_a_child_that_fails_has_made_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> bytes:
        raise ZeroDivisionError

    assert openapi._by_a_child(fail) is None


def test_a_child_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def dawdle() -> bytes:
        time.sleep(60)
        return b""

    monkeypatch.setattr(openapi, "CHILD_SECONDS", 0.2)
    began = time.monotonic()
    assert openapi._by_a_child(dawdle) is None
    assert time.monotonic() - began < 10


def test_where_nothing_can_be_forked_there_is_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    assert openapi._by_a_child(lambda: b"x") is None
