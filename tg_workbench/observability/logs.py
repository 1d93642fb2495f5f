"""Logs: one JSON object per line on standard error, with the request's id and without anything it carried.

Only named fields are written. Texts of exceptions and query strings are left out, and anything that looks
like a key is struck out in case a library wrote it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

STRUCK_OUT = "[redacted]"
_SECRETS = re.compile(
    r"(?:tml-)?tgw-[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SECRET_NAMES = re.compile(r"(?i)(api[-_]?key|authorization|password|secret|token|cookie)$")
Record = MutableMapping[str, Any]


def configure(level: int = logging.INFO) -> None:
    """Send everything, the libraries' lines too, through one JSON formatter."""
    shared = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, _time, redact]
    handler = logging.StreamHandler(sys.stderr)
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
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in ("alembic", "httpx"):  # httpx writes whole URLs, and a webhook's may hold a secret
        logging.getLogger(name).setLevel(logging.WARNING)


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
        if name.startswith("_"):
            continue
        if _SECRET_NAMES.search(name):
            record[name] = STRUCK_OUT
        elif isinstance(value, str):
            record[name] = _SECRETS.sub(STRUCK_OUT, value)
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
