"""The diary of a device that learns as a program of its own: one line whenever something changes.

It hears what the device logs, and how each call goes: that the workbench is away, or back, it says once.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

from tg_workbench.errors import WorkbenchError

AWAY_SECONDS = 5.0
"""A workbench that is back so soon was not away: it was being started anew, or a line broke."""


class Diary(logging.Handler):
    """Writes to standard output what happens, and to standard error what is in the way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.INFO)
        self._clock = clock
        self._failing_since: float | None = None
        self._is_away = False

    def say(self, line: str) -> None:
        """Write a line now, also where it goes into a file."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """What the device logs is a line as it stands."""
        self.say(record.getMessage())

    def called(self, failure: WorkbenchError | None) -> None:
        """A call was answered, or failed and is tried again."""
        moment = self._clock()
        if failure is None:
            if self._is_away:
                self.say("the workbench answers again")
            self._failing_since, self._is_away = None, False
        elif self._failing_since is None:
            self._failing_since = moment
        elif moment - self._failing_since >= AWAY_SECONDS:
            self.is_away(failure)

    def is_away(self, failure: WorkbenchError) -> None:
        """A call has failed for so long that whoever looks should know."""
        if not self._is_away:
            sys.stderr.write(f"tg-workbench: {failure}. It is tried again.\n")
            sys.stderr.flush()
        self._is_away = True
