"""Preparing: what a worker does for a job before the job has begun, which is part of the job's time."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preparing:
    """A job before it has begun: since when it is loaded, and how long it may take in all."""

    since: float
    timeout_seconds: int | None

    @property
    def seconds(self) -> float:
        """How long that has taken so far."""
        return time.monotonic() - self.since

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self.timeout_seconds is not None and self.seconds > self.timeout_seconds
