"""Logs: one JSON object per line, with the request's id and without anything the request carried.

Lines go to standard error and into the journal. Only named fields are written: texts of exceptions and query
strings are left out, and anything that looks like a key is struck out in case a library wrote it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from tg_workbench.observability.journal import Journal

STRUCK_OUT = "[redacted]"
_SECRETS = re.compile(
    r"(?:tml-)?tgw[-.][A-Za-z0-9._-]{8,}"  # our keys, and tokens in a WebSocket's subprotocol
    r"|tg[rio]_[A-Za-z0-9_-]{8,}"  # refresh tokens, invitations, secrets of applications
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+"  # a JWT
    r"|whsec_[A-Za-z0-9+/=_-]{8,}"  # a webhook's secret
    r"|(?i:\b(?:sha256=|v1,)[A-Za-z0-9+/=]{16,})"  # a signature
    r"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/=-]{6,}"  # whatever stands in Authorization
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SECRET_NAMES = re.compile(
    r"(?i)(api[-_]?key|authorization|password|passphrase|secret|token|cookie|signature|credentials?|private[-_]?key)$"
)
_DEEPEST = 6
_NAME = "tg_workbench"
_UNWANTED = "WebSocket"
Record = MutableMapping[str, Any]


def configure(folder: Path | None = None, name: str = "api", level: int = logging.INFO) -> None:
    """Send everything, the libraries' lines too, through one JSON formatter; `folder` takes a journal."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _component,
        _time,
        redact,
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
        line = self.format(record)
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            sys.stderr.write(line + "\n")
        if self.journal is not None:
            self.journal.append(line)


def _says_no_query(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is fit to keep: on a WebSocket it writes the query, which is a caller's."""
    return _UNWANTED not in str(record.msg)


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


def holds_secret(text: str) -> bool:
    """Whether something in a text looks like a secret."""
    return _SECRETS.search(text) is not None


def redact(_logger: Any, _method: str, record: Record) -> Record:
    """Strike out what looks like a secret, by name or by form."""
    for name, value in record.items():
        if not name.startswith("_") and name != "exc_info":
            record[name] = _struck_out(name, value)
    return record


def _struck_out(name: str, value: Any, depth: int = 0) -> Any:
    if _SECRET_NAMES.search(name) and value is not None:
        return STRUCK_OUT
    if isinstance(value, str):
        return _SECRETS.sub(STRUCK_OUT, value)
    if depth >= _DEEPEST:
        return value if isinstance(value, int | float | None) else STRUCK_OUT
    if isinstance(value, dict):
        return {key: _struck_out(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_struck_out("", inner, depth + 1) for inner in value]
    return value


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
