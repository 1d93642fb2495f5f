"""Log lines: what the workbench itself wrote down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.sdk.values import Value


@dataclass(frozen=True, slots=True)
class LogLine(Value):
    """One line. `details` are what was written beside the message; no row, loss or secret ever is."""

    timestamp: str = ""
    level: str = ""
    component: str = ""
    message: str = ""
    request_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line, as a log has it."""
        details = "".join(f" {name}={value}" for name, value in self.details.items())
        return f"{self.timestamp} {self.level} {self.component}: {self.message}{details}"
