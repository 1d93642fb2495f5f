"""A failure, ready to be told: what kind it was, in words, with facts, and never with the request's input.

Rooms raise errors of ours, FastAPI raises its own, and a future stores one as a record. Each becomes the same
frozen value here, and each contract renders that value in its own envelope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tg_workbench.contracts.patterns import said
from tg_workbench.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    ModelNotReady,
    NotFound,
    QueueFull,
    RateLimited,
    TooManyJobs,
    Unauthenticated,
    UploadOffsetWrong,
    WorkbenchError,
    error_named,
)

Line = TypeVar("Line")
MOST_PROBLEMS = 10
_BODY_SHAPES = ("model_attributes_type", "model_type", "dict_type", "bytes_type")


class NoSuchPath(NotFound):
    """No contract has this path."""


class MethodNotAllowed(InvalidRequest):
    """The path is there, the method is not."""


class BodyTooLarge(InvalidRequest):
    """The request's body is larger than this workbench reads."""


class RangeUnsatisfiable(InvalidRequest):
    """The part that was asked for lies outside."""


class ValidationFailed(InvalidRequest):
    """A member of the request is missing, of the wrong type or out of bounds."""


class Unexpected(WorkbenchError):
    """A mistake of ours. Its text stays in the log."""


class OperationFailed(WorkbenchError):
    """The operation that was waited for, or a model's worker, ended in an error; `failure` is what to say."""

    def __init__(self, record: Mapping[str, Any], future_id: str | None = None) -> None:
        super().__init__(record["message"])
        self.failure = Failure.of_record(record, future_id)


_OF_STATUS: dict[int, tuple[type[WorkbenchError], str]] = {
    404: (NoSuchPath, "there is nothing at this path; see /docs for what there is"),
    405: (MethodNotAllowed, "this path does not take this method; the Allow header lists those it takes"),
    413: (BodyTooLarge, "the request's body is larger than this workbench reads"),
    416: (RangeUnsatisfiable, "the Range lies outside of what there is"),
}
_HEADERS: dict[type[WorkbenchError], dict[str, str]] = {
    Unauthenticated: {"WWW-Authenticate": 'Bearer realm="tg-workbench"'},
    QueueFull: {"Retry-After": "1"},
    ModelNotReady: {"Retry-After": "1"},
    DatabaseUnavailable: {"Retry-After": "2"},
    BodyTooLarge: {"Connection": "close"},
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong. `kind` decides code and status; each contract has its own table."""

    kind: type[WorkbenchError]
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure behind any exception; a stranger is `Unexpected` and keeps its text to itself."""
        if isinstance(error, OperationFailed):
            return error.failure
        if isinstance(error, RequestValidationError):
            return _of_problems(error.errors())
        if isinstance(error, HTTPException):
            kind, message = _OF_STATUS.get(
                error.status_code, (InvalidRequest, "the request could not be read")
            )
            return cls(kind, message, {}, {**_HEADERS.get(kind, {}), **(error.headers or {})})
        if isinstance(error, WorkbenchError):
            return cls(type(error), str(error), error.details, _headers_of(error))
        return cls(Unexpected, "something went wrong on our side; the request_id is in the server's log")

    @classmethod
    def of_record(cls, record: Mapping[str, Any], future_id: str | None = None) -> Failure:
        """The failure that a future has stored."""
        more = {"future_id": future_id} if future_id is not None else {}
        kind = error_named(record["type"])
        details = {**record.get("details", {}), **more}
        return cls(kind, record["message"], details, _headers_for(kind))

    def nearest(self, table: Mapping[type[WorkbenchError], Line]) -> Line:
        """The line that a contract's `table` has for this kind, or else for the nearest kind above it."""
        return next(table[kind] for kind in self.kind.__mro__ if kind in table)

    def answer(self, status: int, body: Mapping[str, Any]) -> Response:
        """The response that tells it; a fact that is no finite number becomes null."""
        content = to_json(body, inf_nan_mode="null", serialize_unknown=True)
        return Response(content, status, dict(self.headers), "application/json")


def _headers_of(error: WorkbenchError) -> dict[str, str]:
    headers = _headers_for(type(error))
    if isinstance(error, UploadOffsetWrong):
        return {**headers, "Upload-Offset": str(error.offset)}
    if isinstance(error, RateLimited | TooManyJobs):
        return {**headers, "Retry-After": str(error.retry_after)}
    return headers


def _headers_for(kind: type[WorkbenchError]) -> dict[str, str]:
    return next((_HEADERS[above] for above in kind.__mro__ if above in _HEADERS), {})


def _of_problems(errors: Sequence[Mapping[str, Any]]) -> Failure:
    problems = [_problem(error) for error in errors[:MOST_PROBLEMS]]
    first = f"{problems[0]['where']}: {problems[0]['problem']}" if problems else "the request is not valid"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Failure(ValidationFailed, first + more, {"problems": problems})


def _problem(error: Mapping[str, Any]) -> dict[str, str]:
    """Where and what, in our own names: an unknown member's name is the caller's, so it is not repeated."""
    where = [str(part) for part in error["loc"]]
    kind, message = error["type"], str(error["msg"])
    if kind == "json_invalid":
        return {"where": "body", "problem": str(error["ctx"]["error"])}
    if kind == "extra_forbidden":
        return {"where": ".".join(where[:-1]), "problem": "it has a member that is not known here"}
    if kind == "string_pattern_mismatch":
        message = said(message)
    if len(where) == 1 and (kind in _BODY_SHAPES or kind == "missing"):
        message = "send a JSON object, with Content-Type: application/json"
    return {"where": ".".join(where), "problem": message.removeprefix("Value error, ")}
