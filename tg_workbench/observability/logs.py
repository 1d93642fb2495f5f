"""Logs: one JSON object per line, with the request's id and without anything the request carried.

Lines go to standard error and into the journal. Only named fields are written: texts of exceptions and query
strings are left out, and anything that looks like a key is struck out in case a library wrote it. Nothing
that goes wrong here reaches whoever had something to say.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from tg_workbench.observability.allowance import Allowance
from tg_workbench.observability.journal import Journal
from tg_workbench.observability.redaction import struck_out

_NAME = "tg_workbench"
_UNWANTED = ("WebSocket", "Traceback (")
Record = MutableMapping[str, Any]


def configure(folder: Path | None = None, name: str = "api", level: int = logging.INFO) -> None:
    """Send everything, the libraries' lines too, through one JSON formatter; `folder` takes a journal."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _component,
        _time,
    ]
    handler = _Lines(_journal(folder, name))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_text,
                redact,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for server in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(server).handlers.clear()
        logging.getLogger(server).propagate = True
    logging.getLogger("uvicorn.error").addFilter(_says_no_query)
    logging.getLogger("uvicorn.error").addFilter(_Strangers())
    for library in ("alembic", "httpx"):  # httpx writes whole URLs, which may hold a secret
        logging.getLogger(library).setLevel(logging.WARNING)


def _journal(folder: Path | None, name: str) -> Journal | None:
    """A journal, if there is room for one: without it the workbench works, and still says what it has to."""
    if folder is None:
        return None
    with contextlib.suppress(OSError):
        return Journal(folder, name)
    return None


class _Lines(logging.Handler):
    """Formats a record once, for standard error and for the journal. What cannot be written is lost."""

    def __init__(self, journal: Journal | None) -> None:
        super().__init__()
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(_without_texts_of_exceptions(record))
        except Exception:  # noqa: BLE001 - a value that cannot be written, or words that do not fit their values
            line = _that_a_line_is_lost(record)
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            sys.stderr.write(line + "\n")
        if self.journal is not None:
            self.journal.append(line)


class _Strangers(logging.Filter):
    """Leaves room for others: uvicorn writes a line for whatever is no HTTP, and strangers can send a lot."""

    def __init__(self) -> None:
        super().__init__()
        self._allowance = Allowance()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        has_room, left_out = self._allowance.take()
        if left_out:
            record.msg = f"{record.msg} ({left_out} such lines are not in the log)"
        return has_room


def _without_texts_of_exceptions(record: logging.LogRecord) -> logging.LogRecord:
    """A library's line says an exception's type where it would have said its text."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            type(value).__name__ if isinstance(value, BaseException) else value for value in record.args
        )
    return record


def _that_a_line_is_lost(record: logging.LogRecord) -> str:
    said = {
        "level": record.levelname.lower(),
        "event": "a line could not be written",
        "at": f"{record.pathname}:{record.lineno}",
    }
    said = _time(None, "", _component(None, "", {"logger": record.name, **said}))  # type: ignore[assignment]
    return json.dumps(said)


def _says_no_query(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is fit to keep.

    On a WebSocket it writes the query, which is a caller's; when the application cannot start, the texts of
    exceptions: the application has said why.
    """
    return not any(words in str(record.msg) for words in _UNWANTED)


def where(error: BaseException) -> dict[str, Any]:
    """What may be said of an exception: its type, its cause's, and the lines it came through."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    said: dict[str, Any] = {
        "error": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if error.__cause__ is not None:
        said["cause"] = type(error.__cause__).__name__
    return said


def redact(_logger: Any, _method: str, record: Record) -> Record:
    """Strike out what looks like a secret, by name or by form."""
    for name, value in record.items():
        if not name.startswith("_") and name != "exc_info":
            record[name] = struck_out(name, value)
    return record


def _component(_logger: Any, _method: str, record: Record) -> Record:
    """Who is speaking: its logger's name, without ours before it."""
    record["component"] = str(record.pop("logger", "")).removeprefix(f"{_NAME}.") or _NAME
    return record


def _without_text(_logger: Any, _method: str, record: Record) -> Record:
    """Put an exception's type and place where a traceback with its text would be."""
    info = record.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        record.update(where(error))
    return record


def _time(_logger: Any, _method: str, record: Record) -> Record:
    record["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return record
