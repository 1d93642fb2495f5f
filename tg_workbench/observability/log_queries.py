"""Log queries: which of the journal's lines, by level, component and time. The newest come first.

Journals are read from their end and only as far as needed; a look goes no further back than 100,000 lines.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic_core import from_json

from tg_workbench.observability.journal import newest_first

Level = Literal["info", "warning", "error"]
MOST_LINES = 100_000
OF_LEVEL = {"info": ("info",), "warning": ("warning",), "error": ("error", "critical")}
OWN_MEMBERS = ("timestamp", "level", "component", "event", "request_id")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One thing that was written down."""

    timestamp: str
    level: str
    component: str
    message: str
    request_id: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What is asked for. A component stands for those below it: `uvicorn` for `uvicorn.error`."""

    level: Level | None = None
    component: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100

    def of(self, folder: Path) -> list[LogLine]:
        """The lines of a folder's journals that fit."""
        return list(islice(self._fitting(folder), self.limit))

    def _fitting(self, folder: Path) -> Iterator[LogLine]:
        since, until = _as_written(self.since), _as_written(self.until)
        newest = heapq.merge(*map(_read, newest_first(folder)), key=_time_of, reverse=True)
        for line in islice(newest, MOST_LINES):
            time = _time_of(line)
            if since is not None and time < since:
                return
            if (until is None or time <= until) and self._fits(line):
                yield _line(line)

    def _fits(self, line: dict[str, Any]) -> bool:
        level, component = line.get("level"), str(line.get("component", ""))
        if self.level is not None and level not in OF_LEVEL[self.level]:
            return False
        return self.component is None or f"{component}.".startswith(f"{self.component}.")


def _read(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The objects in a journal; what is none (cut off by a crash, say) is passed over."""
    for line in lines:
        try:
            value = from_json(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _time_of(line: dict[str, Any]) -> str:
    return str(line.get("timestamp", ""))


def _as_written(time: datetime | None) -> str | None:
    """A time in the journal's own words, which sort as times do. Without a zone it is UTC."""
    if time is None:
        return None
    zoned = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return zoned.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(line: dict[str, Any]) -> LogLine:
    return LogLine(
        timestamp=_time_of(line),
        level=str(line.get("level", "")),
        component=str(line.get("component", "")),
        message=str(line.get("event", "")),
        request_id=line.get("request_id"),
        details={name: value for name, value in line.items() if name not in OWN_MEMBERS},
    )
