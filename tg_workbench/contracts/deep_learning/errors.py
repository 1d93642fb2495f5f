"""How the Deep Learning Platform words a failure: `{"error": a_code, message}`, and what belongs to the code.

A request that is not valid is 400 with `details` of fields, and so is what exists already, for the document
knows no 409; a 429 says when to come back, and a 500 under which id it is in the log.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from tg_workbench import errors
from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.route import Contract, failures_in, route_of
from tg_workbench.contracts.statuses import PHRASES, STATUSES

DEEP_LEARNING_STATUSES = {**STATUSES, errors.AlreadyExists: 400}
CODES = {
    **{status: phrase.lower().replace(" ", "_") for status, phrase in PHRASES.items()},
    400: "validation_error",
    429: "rate_limit_exceeded",
    500: "internal_error",
}


class FieldProblem(BaseModel):
    """What is wrong with one member of a request."""

    field: str
    message: str


class DeepLearningFailure(BaseModel):
    """The Deep Learning Platform's word for an error."""

    error: str
    message: str
    details: list[FieldProblem] | None = Field(None, description="Of `validation_error`.")
    retry_after: int | None = Field(None, description="Of `rate_limit_exceeded`: seconds.")
    request_id: str | None = Field(None, description="Of `internal_error`.")


def render(failure: Failure, request_id: str) -> Response:
    """The answer that says what went wrong."""
    status = failure.nearest(DEEP_LEARNING_STATUSES)
    body: dict[str, Any] = {"error": CODES[status], "message": failure.message}
    if problems := failure.details.get("problems"):
        body["details"] = [
            {"field": field_of(problem["where"]), "message": problem["problem"]} for problem in problems
        ]
    if "retry_after" in failure.details:
        body["retry_after"] = failure.details["retry_after"]
    if status == 500:
        body["request_id"] = request_id.removeprefix("req_")
    return failure.answer(status, body)


def field_of(where: str) -> str:
    """The innermost name in a place: that is how the document names `hyperparameters.learning_rate`."""
    return next((part for part in reversed(where.split(".")) if not part.isdigit()), where)


DEEP_LEARNING = Contract("deep_learning", "Deep Learning Platform", render)
DeepLearningRoute = route_of(DEEP_LEARNING)
DEEP_LEARNING_FAILURES = failures_in(DeepLearningFailure)
