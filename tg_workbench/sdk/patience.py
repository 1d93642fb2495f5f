"""How long a call is tried again while the workbench does not answer, and how often."""

from __future__ import annotations

import random
import time

from tg_workbench.errors import WorkbenchError

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
LONGEST_TURN = 60.0
"""How long it is waited for at most where too much was asked in a while."""


def wait_for_turn(failure: WorkbenchError) -> None:
    """Pause for as long as a refusal says, if it says so: no longer than LONGEST_TURN."""
    time.sleep(min(float(getattr(failure, "retry_after", 0.0)), LONGEST_TURN))


class Patience:
    """A deadline that starts with the first failure, and pauses that grow until it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline: float | None = None
        self._pause = FIRST_PAUSE

    def restore(self) -> None:
        """The workbench has answered: the next failure is a first one again."""
        self._deadline, self._pause = None, FIRST_PAUSE

    def wait_after(self, failure: WorkbenchError) -> None:
        """Pause before the next try. Raises `failure` when the time is up."""
        at = time.monotonic()
        self._deadline = at + self.seconds if self._deadline is None else self._deadline
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads callers out, guards nothing
        if at + pause > self._deadline:
            raise failure
        time.sleep(pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
