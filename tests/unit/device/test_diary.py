"""A diary says that the workbench is away, and that it is back, each once; and of a short break nothing."""

from __future__ import annotations

import logging

import pytest

from tg_workbench.device.diary import AWAY_SECONDS, Diary
from tg_workbench.errors import CallFailed

FAILURE = CallFailed("nobody answers")
Captured = pytest.CaptureFixture[str]


class Clock:
    moment = 100.0

    def __call__(self) -> float:
        return self.moment


def test_a_workbench_that_is_away_is_said_to_be_once_and_so_that_it_is_back(capsys: Captured) -> None:
    clock = Clock()
    diary = Diary(clock)
    for _ in range(2):
        for _ in range(4):
            diary.called(FAILURE)
            clock.moment += AWAY_SECONDS / 2
        diary.called(None)
        diary.called(None)
    told = capsys.readouterr()
    assert told.out.splitlines() == ["the workbench answers again"] * 2
    assert told.err.splitlines() == ["tg-workbench: nobody answers. It is tried again."] * 2


def test_of_a_short_break_nothing_is_said(capsys: Captured) -> None:
    clock = Clock()
    diary = Diary(clock)
    for _ in range(4):
        diary.called(FAILURE)
        clock.moment += AWAY_SECONDS / 2
        diary.called(None)
        clock.moment += AWAY_SECONDS
    assert capsys.readouterr() == ("", "")


def test_what_a_device_logs_is_a_line(capsys: Captured) -> None:
    log, diary = logging.Logger("of this test"), Diary()
    log.addHandler(diary)
    log.info("round %s trains", 3)
    log.debug("a poll")
    assert capsys.readouterr() == ("round 3 trains\n", "")
