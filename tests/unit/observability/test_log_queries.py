"""Log queries find lines by level, component and time, and read no more than they need."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tg_workbench.observability import log_queries
from tg_workbench.observability.journal import Journal
from tg_workbench.observability.log_queries import LogQuery

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two processes that took turns, one line a second."""
    api, dispatcher = Journal(tmp_path, "api"), Journal(tmp_path, "dispatcher")
    for second in range(20):
        writer = dispatcher if second % 4 == 3 else api
        time = (NOON + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "event": f"line {second}",
            "level": ("info", "warning", "error", "critical")[second % 4],
            "component": "uvicorn.error" if second % 2 else "requests",
            "timestamp": time,
            "status": second,
        }
        writer.append(json.dumps(line))
    api.append("{cut off")
    return tmp_path


def found(query: LogQuery, folder: Path) -> list[int]:
    return [line.details["status"] for line in query.of(folder)]


def test_the_newest_of_all_processes_come_first(folder: Path) -> None:
    assert found(LogQuery(limit=5), folder) == [19, 18, 17, 16, 15]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (LogQuery(level="warning"), [17, 13, 9, 5, 1]),
        (LogQuery(level="error", limit=4), [19, 18, 15, 14]),
        (LogQuery(component="uvicorn", limit=2), [19, 17]),
        (LogQuery(component="uvicorn.error", limit=2), [19, 17]),
        (LogQuery(component="uvic"), []),
        (LogQuery(since=NOON + timedelta(seconds=18)), [19, 18]),
        (LogQuery(until=NOON + timedelta(seconds=1)), [1, 0]),
        (LogQuery(until=(NOON + timedelta(seconds=1)).replace(tzinfo=None)), [1, 0]),
        (LogQuery(since=NOON + timedelta(seconds=4), until=NOON + timedelta(seconds=5)), [5, 4]),
    ],
    ids=str,
)
def test_a_query_finds_what_fits(query: LogQuery, wanted: list[int], folder: Path) -> None:
    assert found(query, folder) == wanted


def test_a_line_says_who_spoke_when_and_what(folder: Path) -> None:
    (line,) = LogQuery(limit=1).of(folder)
    assert (line.timestamp, line.level, line.component) == (
        "2026-01-01T12:00:19.000Z",
        "critical",
        "uvicorn.error",
    )
    assert (line.message, line.request_id, line.details) == ("line 19", None, {"status": 19})


def test_a_look_goes_only_so_far_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_queries, "MOST_LINES", 3)
    assert found(LogQuery(level="warning"), folder) == [17]


def test_a_folder_without_journals_has_no_lines(tmp_path: Path) -> None:
    assert LogQuery().of(tmp_path / "nowhere") == []
